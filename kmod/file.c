// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/ingot<N>: who owns the device, and the way of every call from an argument that may be
 * anything to a handler that may believe it.
 */
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/poll.h>

#include "kmod.h"

/* The session's right to use the device, until ingot_leave(). */
int ingot_enter(struct ingot_session *s, enum ingot_needs needs)
{
	struct ingot_dev *d = s->dev;
	int ret;

	down_read(&d->lock);
	ret = d->session == s ? ingot_state_check(needs, d->state) : -ENODEV;
	if (ret)
		up_read(&d->lock);
	return ret;
}

void ingot_leave(struct ingot_session *s)
{
	up_read(&s->dev->lock);
}

static int get_info(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_info *a = &args->info;
	struct ingot_dev *d = s->dev;
	struct pci_dev *pdev = d->pdev;

	a->abi_major = INGOT_ABI_MAJOR;
	a->abi_minor = INGOT_ABI_MINOR;
	a->vendor = pdev->vendor;
	a->device = pdev->device;
	a->subvendor = pdev->subsystem_vendor;
	a->subdevice = pdev->subsystem_device;
	a->class_rev = pdev->class << 8 | pdev->revision;
	a->domain = pci_domain_nr(pdev->bus);
	a->bdf = PCI_DEVID(pdev->bus->number, pdev->devfn);
	a->state = d->state;
	a->dma_mode = d->dma_mode;
	if (d->state != INGOT_STATE_GONE)
		a->dma_mode = ingot_dma_mode(d);
	a->dma_bits = d->dma_bits;
	a->num_irqs = d->num_vectors;
	a->numa_node = d->numa;
	a->reserved = 0;
	a->caps = d->caps | (d->needs_reset ? INGOT_CAP_NEEDS_RESET : 0);
	a->generation = d->generation;
	return 0;
}

static int cfg_read(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_cfg_read *a = &args->cfg_read;
	u32 dword = ~0U;

	/* Not pci_user_read_config: it waits for a reset by others, which waits for us. */
	if (a->offset < s->dev->pdev->cfg_size)
		pci_read_config_dword(s->dev->pdev, round_down(a->offset, 4), &dword);
	a->value = dword >> 8 * (a->offset & 3) & GENMASK(8 * a->width - 1, 0);
	return 0;
}

static int debug_inject(struct ingot_session *s, union ingot_args *args)
{
	if (!IS_ENABLED(CONFIG_INGOT_KMOD_DEBUG))
		return -ENOTTY;
	s->dev->inject = args->debug_inject.faults;
	return 0;
}

/* A locked one runs between ingot_enter() and ingot_leave(), and touches no user memory. */
static const struct {
	ingot_handler *handler;
	bool locked;
} calls[] = {
	[_IOC_NR(INGOT_GET_INFO)] =	{ get_info, true },
	[_IOC_NR(INGOT_GET_BAR)] =	{ ingot_get_bar, true },
	[_IOC_NR(INGOT_CFG_READ)] =	{ cfg_read, true },
	[_IOC_NR(INGOT_CFG_OP)] =	{ ingot_cfg_op },
	[_IOC_NR(INGOT_MEM_ALLOC)] =	{ ingot_mem_alloc },
	[_IOC_NR(INGOT_MEM_PIN)] =	{ ingot_mem_pin },
	[_IOC_NR(INGOT_MEM_SEGS)] =	{ ingot_mem_segs },
	[_IOC_NR(INGOT_MEM_FREE)] =	{ ingot_mem_free },
	[_IOC_NR(INGOT_MEM_EXPORT)] =	{ ingot_mem_export, true },
	[_IOC_NR(INGOT_MEM_IMPORT)] =	{ ingot_mem_import, true },
	[_IOC_NR(INGOT_PEER_MAP)] =	{ ingot_peer_map },
	[_IOC_NR(INGOT_IRQ_SET)] =	{ ingot_irq_set },
	[_IOC_NR(INGOT_IRQ_INFO)] =	{ ingot_irq_info },
	[_IOC_NR(INGOT_RESET)] =	{ ingot_reset },
	[_IOC_NR(INGOT_EVENT_SET)] =	{ ingot_event_set, true },
	[_IOC_NR(INGOT_EVENT_GET)] =	{ ingot_event_get, true },
	[_IOC_NR(INGOT_DEBUG_INJECT)] =	{ debug_inject, true },
};

static int call(struct ingot_session *s, const struct ingot_call_rule *rule, union ingot_args *a)
{
	unsigned int i = array_index_nospec(_IOC_NR(rule->nr), ARRAY_SIZE(calls));
	int ret;

	if (!calls[i].locked)
		return calls[i].handler(s, a);
	ret = ingot_enter(s, rule->needs);
	if (ret)
		return ret;
	ret = calls[i].handler(s, a);
	ingot_leave(s);
	return ret;
}

static long ingot_ioctl(struct file *file, unsigned int nr, unsigned long arg)
{
	const struct ingot_call_rule *rule = ingot_rule_of(nr);
	struct ingot_session *s = file->private_data;
	void __user *user = (void __user *)arg;
	union ingot_args a = { };
	u32 argsz;
	int ret;

	if (!rule)
		return -ENOTTY;
	if (current_user_ns() != s->cred->user_ns)
		return -EPERM;
	if (get_user(argsz, (u32 __user *)user))
		return -EFAULT;
	if (argsz < rule->min_size)
		return -EINVAL;
	if (argsz > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&a, rule->size, user, argsz);
	if (ret)
		return ret;
	a.header.argsz = argsz;		/* another thread may have changed it in between */
	ret = ingot_args_check(nr, &a);
	if (!ret)
		ret = call(s, rule, &a);
	if (ret)
		return ret;
	/* When this fails the caller has lost the handle in it; closing the file frees it. */
	return copy_to_user(user, &a, min(argsz, rule->size)) ? -EFAULT : 0;
}

static int ingot_open(struct inode *inode, struct file *file)
{
	struct ingot_dev *d = container_of(inode->i_cdev, struct ingot_dev, cdev);
	struct ingot_session *s;
	int ret;

	s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	if (!s)
		return -ENOMEM;
	ret = device_lock_interruptible(&d->pdev->dev);
	if (ret)
		goto err_free;
	mutex_lock(&ingot_group_mutex);
	down_write(&d->lock);
	if (d->state == INGOT_STATE_GONE)
		ret = -ENODEV;
	else if (d->session || atomic_read(&d->stale_maps))
		ret = -EBUSY;
	else if (d->poisoned)
		ret = -EIO;
	else
		ret = ingot_may_open(d);
	if (ret)
		goto err_unlock;
	ret = pm_runtime_resume_and_get(&d->pdev->dev);
	if (ret)
		goto err_unlock;

	get_device(&d->dev);
	s->dev = d;
	s->mapping = file->f_mapping;
	s->tgid = get_pid(task_tgid(current));
	s->cred = get_current_cred();
	xa_init_flags(&s->mems, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	d->owned = true;
	d->owner = current_euid();
	ingot_event_detach(d);
	down_write(&d->map_lock);
	d->session = s;
	if (d->state == INGOT_STATE_FREE) {
		d->state = INGOT_STATE_OWNED;
		d->blocked = false;
	}
	up_write(&d->map_lock);
	file->private_data = s;
	ret = nonseekable_open(inode, file);

err_unlock:
	up_write(&d->lock);
	mutex_unlock(&ingot_group_mutex);
	device_unlock(&d->pdev->dev);
err_free:
	if (ret)
		kfree(s);
	return ret;
}

static void end(struct ingot_session *s)
{
	struct ingot_dev *d = s->dev;

	device_lock(&d->pdev->dev);
	down_write(&d->lock);
	if (d->session == s && d->state != INGOT_STATE_GONE)
		ingot_session_end(d, false);
	up_write(&d->lock);
	device_unlock(&d->pdev->dev);
	ingot_mem_drop_all(s);
}

/* The opener dies: its device stops now, whoever has inherited the file. */
static int ingot_flush(struct file *file, fl_owner_t id)
{
	struct ingot_session *s = file->private_data;

	/* The last thread of it: others leave with a file table of their own, or none. */
	if ((current->flags & PF_EXITING) && task_tgid(current) == s->tgid &&
	    !atomic_read(&current->signal->live))
		end(s);
	return 0;
}

static int ingot_release(struct inode *inode, struct file *file)
{
	struct ingot_session *s = file->private_data;
	struct ingot_dev *d = s->dev;

	end(s);
	down_write(&d->lock);
	if (d->session == s) {		/* gone: removal has left it to us */
		down_write(&d->map_lock);
		d->session = NULL;
		up_write(&d->map_lock);
		ingot_event_detach(d);
	}
	up_write(&d->lock);
	xa_destroy(&s->mems);
	put_pid(s->tgid);
	put_cred(s->cred);
	kfree(s);
	put_device(&d->dev);
	return 0;
}

static __poll_t ingot_poll(struct file *file, poll_table *wait)
{
	struct ingot_session *s = file->private_data;
	struct ingot_dev *d = s->dev;
	__poll_t mask = 0;

	poll_wait(file, &d->event_wait, wait);
	if (READ_ONCE(d->session) != s)
		return EPOLLERR | EPOLLHUP;
	if (READ_ONCE(d->events))
		mask |= EPOLLPRI;
	if (READ_ONCE(d->state) == INGOT_STATE_LOST)
		mask |= EPOLLERR;
	if (READ_ONCE(d->state) == INGOT_STATE_GONE)
		mask |= EPOLLERR | EPOLLHUP;
	return mask;
}

const struct file_operations ingot_fops = {
	.owner = THIS_MODULE,
	.open = ingot_open,
	.release = ingot_release,
	.flush = ingot_flush,
	.poll = ingot_poll,
	.mmap = ingot_mmap,
	.unlocked_ioctl = ingot_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* NULL when @file is not one of ours. */
struct ingot_session *ingot_session_of(struct file *file)
{
	return file->f_op == &ingot_fops ? file->private_data : NULL;
}
