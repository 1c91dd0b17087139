// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts and events, both to eventfds. Vectors exist from probe on and belong to nobody
 * until a session says where they go. An eventfd is used and replaced under the vector's
 * spinlock, and put outside of it. A vector that fires without end is stopped: a mad device
 * must not take a processor away.
 */
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/poll.h>

#include "compat.h"
#include "kmod.h"

static int irq_of(struct ingot_dev *d, u32 vector)
{
	return pci_irq_vector(d->pdev, vector);
}

static irqreturn_t irq_handler(int irq, void *data)
{
	struct ingot_vector *v = data;
	u64 window = get_jiffies_64() / max(1UL, msecs_to_jiffies(10));
	unsigned long flags;

	spin_lock_irqsave(&v->lock, flags);
	v->count++;
	if (v->ctx)
		ingot_signal(v->ctx);
	if (ingot_rate_exceeded(&v->rate, window, READ_ONCE(ingot_irq_burst)) && !v->masked) {
		v->masked = true;
		disable_irq_nosync(irq);
		ingot_event(v->dev, INGOT_EVENT_IRQ_MASKED);
	}
	spin_unlock_irqrestore(&v->lock, flags);
	return IRQ_HANDLED;
}

int ingot_irqs_init(struct ingot_dev *d, u32 n)
{
	struct ingot_vector *v;
	int ret;

	d->vectors = kcalloc(n, sizeof(*d->vectors), GFP_KERNEL);
	if (!d->vectors)
		return -ENOMEM;
	for (; d->num_vectors < n; d->num_vectors++) {
		v = &d->vectors[d->num_vectors];
		v->dev = d;
		spin_lock_init(&v->lock);
		ret = devm_request_irq(&d->pdev->dev, irq_of(d, d->num_vectors), irq_handler, 0,
				       dev_name(&d->dev), v);
		if (ret)
			return ret;
	}
	return 0;
}

static struct eventfd_ctx *swap_ctx(struct ingot_vector *v, int irq, struct eventfd_ctx *ctx)
{
	struct eventfd_ctx *old;
	bool enable;

	spin_lock_irq(&v->lock);
	old = v->ctx;
	v->ctx = ctx;
	enable = v->masked;
	v->masked = false;
	spin_unlock_irq(&v->lock);
	if (enable)
		enable_irq(irq);
	return old;
}

static void put_ctx(struct eventfd_ctx *ctx)
{
	if (ctx)
		eventfd_ctx_put(ctx);
}

/* The device has stopped; when this returns no handler runs and none will signal. */
void ingot_irqs_detach(struct ingot_dev *d)
{
	u32 i;

	for (i = 0; i < d->num_vectors; i++) {
		put_ctx(swap_ctx(&d->vectors[i], irq_of(d, i), NULL));
		synchronize_irq(irq_of(d, i));
		d->vectors[i].count = 0;
	}
}

static struct eventfd_ctx *ctx_of(s32 fd)
{
	if (fd == -1)
		return NULL;
	return fd < 0 ? ERR_PTR(-EBADF) : eventfd_ctx_fdget(fd);
}

int ingot_irq_set(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_irq_set *a = &args->irq_set;
	struct eventfd_ctx *ctx[INGOT_MAX_IRQS] = { };
	struct ingot_dev *d = s->dev;
	s32 fds[INGOT_MAX_IRQS];
	u32 i;
	int ret;

	if (copy_from_user(fds, u64_to_user_ptr(a->fds), a->count * sizeof(fds[0])))
		return -EFAULT;
	for (i = 0; i < a->count; i++) {
		ctx[i] = ctx_of(fds[i]);
		if (IS_ERR(ctx[i])) {
			ret = PTR_ERR(ctx[i]);
			ctx[i] = NULL;
			goto out;
		}
	}
	ret = ingot_enter(s, INGOT_NEEDS_WORKING);
	if (ret)
		goto out;
	if (ingot_range_ok(a->first, a->count, d->num_vectors))
		for (i = 0; i < a->count; i++)
			ctx[i] = swap_ctx(&d->vectors[a->first + i], irq_of(d, a->first + i),
					  ctx[i]);
	else
		ret = -EINVAL;
	ingot_leave(s);
out:
	for (i = 0; i < a->count; i++)
		put_ctx(ctx[i]);
	return ret;
}

int ingot_irq_info(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_irq_info *a = &args->irq_info;
	struct ingot_irq_count counts[INGOT_MAX_IRQS] = { };
	struct ingot_dev *d = s->dev;
	u32 i;
	int ret;

	ret = ingot_enter(s, INGOT_NEEDS_DEVICE);
	if (ret)
		return ret;
	if (!ingot_range_ok(a->first, a->count, d->num_vectors))
		ret = -EINVAL;
	for (i = 0; !ret && i < a->count; i++) {
		struct ingot_vector *v = &d->vectors[a->first + i];

		spin_lock_irq(&v->lock);
		counts[i].count = v->count;
		counts[i].masked = v->masked;
		spin_unlock_irq(&v->lock);
	}
	ingot_leave(s);
	if (!ret && copy_to_user(u64_to_user_ptr(a->counts), counts,
				 a->count * sizeof(counts[0])))
		ret = -EFAULT;
	return ret;
}

/* From anywhere, interrupts included. */
void ingot_event(struct ingot_dev *d, u32 reason)
{
	unsigned long flags;

	spin_lock_irqsave(&d->event_lock, flags);
	d->events |= reason;
	if (d->event_ctx)
		ingot_signal(d->event_ctx);
	spin_unlock_irqrestore(&d->event_lock, flags);
	wake_up_interruptible_poll(&d->event_wait, EPOLLPRI | EPOLLERR | EPOLLHUP);
}

static void set_event_ctx(struct ingot_dev *d, struct eventfd_ctx *ctx)
{
	spin_lock_irq(&d->event_lock);
	swap(d->event_ctx, ctx);
	if (!d->event_ctx)
		d->events = 0;
	spin_unlock_irq(&d->event_lock);
	put_ctx(ctx);
}

/* Nobody is told any more, and the next owner finds nothing. */
void ingot_event_detach(struct ingot_dev *d)
{
	set_event_ctx(d, NULL);
}

int ingot_event_set(struct ingot_session *s, union ingot_args *args)
{
	struct eventfd_ctx *ctx = ctx_of(args->event_set.fd);

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	set_event_ctx(s->dev, ctx);
	return 0;
}

int ingot_event_get(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_dev *d = s->dev;

	args->event_get.state = d->state;
	args->event_get.generation = d->generation;
	spin_lock_irq(&d->event_lock);
	args->event_get.reasons = d->events;
	d->events = 0;
	spin_unlock_irq(&d->event_lock);
	return 0;
}
