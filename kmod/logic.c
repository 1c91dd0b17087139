// SPDX-License-Identifier: GPL-2.0
/* See logic.h. Every number that reaches these functions may have been chosen by an attacker. */
#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/string.h>
#else
#include <errno.h>
#include <string.h>
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif
#include "logic.h"

#define RULE(call, type, known_flags, need)						\
	{										\
		.nr = INGOT_##call, .min_size = sizeof(struct type),			\
		.size = sizeof(struct type), .flags = (known_flags),			\
		.needs = INGOT_NEEDS_##need						\
	}

#define ALLOC_FLAGS (INGOT_MEM_CONTIG | INGOT_MEM_HUGE | INGOT_MEM_NODE)
#define INJECT_FLAGS (INGOT_INJECT_BAD_ORDER | INGOT_INJECT_PENDING | \
		      INGOT_INJECT_RESET | INGOT_INJECT_BOUNCE)

static const struct ingot_call_rule rules[] = {
	RULE(GET_INFO,	   ingot_info,	       0,		     NOTHING),
	RULE(GET_BAR,	   ingot_bar,	       0,		     DEVICE),
	RULE(CFG_READ,	   ingot_cfg_read,     0,		     DEVICE),
	RULE(CFG_OP,	   ingot_cfg_op,       0,		     WORKING),
	RULE(MEM_ALLOC,	   ingot_mem_alloc,    ALLOC_FLAGS,	     WORKING),
	RULE(MEM_PIN,	   ingot_mem_pin,      INGOT_PIN_READONLY,   WORKING),
	RULE(MEM_SEGS,	   ingot_mem_segs,     0,		     DEVICE),
	RULE(MEM_FREE,	   ingot_mem_free,     0,		     DEVICE),
	RULE(MEM_EXPORT,   ingot_mem_export,   INGOT_EXPORT_BAR,     WORKING),
	RULE(MEM_IMPORT,   ingot_mem_import,   0,		     WORKING),
	RULE(PEER_MAP,	   ingot_peer_map,     0,		     WORKING),
	RULE(IRQ_SET,	   ingot_irq_set,      0,		     WORKING),
	RULE(IRQ_INFO,	   ingot_irq_info,     0,		     DEVICE),
	RULE(RESET,	   ingot_reset,	       INGOT_RESET_KEEP_MEM, DEVICE),
	RULE(EVENT_SET,	   ingot_event_set,    0,		     NOTHING),
	RULE(EVENT_GET,	   ingot_event_get,    0,		     NOTHING),
	RULE(DEBUG_INJECT, ingot_debug_inject, 0,		     WORKING),
};

const struct ingot_call_rule *ingot_rule_of(__u32 nr)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rules); i++)
		if (rules[i].nr == nr)
			return &rules[i];
	return NULL;
}

/* Inside @size, without overflow, and not empty. */
bool ingot_range_ok(__u64 offset, __u64 length, __u64 size)
{
	return length && offset < size && length <= size - offset;
}

bool ingot_pages_ok(__u64 offset, __u64 length, __u64 size)
{
	return !((offset | length) & (INGOT_PAGE - 1)) && ingot_range_ok(offset, length, size);
}

static int check_cfg_op(const struct ingot_cfg_op *a)
{
	switch (a->op) {
	case INGOT_CFG_MASTER:
	case INGOT_CFG_RELAXED:
		return a->arg <= 1 ? 0 : -EINVAL;
	case INGOT_CFG_ATOMICS:
		return a->arg == 1 ? 0 : -EINVAL;
	case INGOT_CFG_READ_SIZE:
		return a->arg >= 128 && a->arg <= 4096 && !(a->arg & (a->arg - 1)) ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int check_mem_alloc(const struct ingot_mem_alloc *a)
{
	__u64 limit = a->flags & INGOT_MEM_CONTIG ? INGOT_MAX_CONTIG : INGOT_MAX_BYTES;

	if (!ingot_pages_ok(0, a->size, limit) || a->reserved)
		return -EINVAL;
	if ((a->flags & INGOT_MEM_HUGE) && a->size % INGOT_HUGE_BYTES)
		return -EINVAL;
	if (!(a->flags & INGOT_MEM_NODE) && a->numa_node)
		return -EINVAL;
	return 0;
}

/**
 * ingot_args_check() - refuse what can be refused without looking at the device
 * @nr: a number that ingot_rule_of() knows
 * @a: its argument, zero beyond what the caller gave
 *
 * Return: 0, or a negative error that ingot_uapi.h promises
 */
int ingot_args_check(__u32 nr, const union ingot_args *a)
{
	const struct ingot_call_rule *rule = ingot_rule_of(nr);
	bool ok = true;

	if (!rule)
		return -ENOTTY;
	if (a->header.flags & ~rule->flags)
		return -EINVAL;

	switch (nr) {
	case INGOT_GET_BAR:
		ok = a->bar.index < INGOT_NUM_BARS;
		break;
	case INGOT_CFG_READ:
		ok = (a->cfg_read.width == 1 || a->cfg_read.width == 2 ||
		      a->cfg_read.width == 4) && !a->cfg_read.reserved &&
		     !(a->cfg_read.offset & (a->cfg_read.width - 1)) &&
		     a->cfg_read.offset < 4096;
		break;
	case INGOT_CFG_OP:
		return check_cfg_op(&a->cfg_op);
	case INGOT_MEM_ALLOC:
		return check_mem_alloc(&a->mem_alloc);
	case INGOT_MEM_PIN:
		ok = ingot_pages_ok(0, a->mem_pin.size, INGOT_MAX_BYTES) &&
		     ingot_pages_ok(a->mem_pin.va, a->mem_pin.size, ~0ULL);
		break;
	case INGOT_MEM_SEGS:
		ok = a->mem_segs.handle;
		break;
	case INGOT_MEM_FREE:
		ok = a->mem_free.handle && !a->mem_free.reserved;
		break;
	case INGOT_MEM_EXPORT:
		ok = ingot_pages_ok(a->mem_export.offset, a->mem_export.length, ~0ULL);
		if (a->header.flags & INGOT_EXPORT_BAR)
			ok = ok && a->mem_export.source < INGOT_NUM_BARS;
		else
			ok = ok && a->mem_export.source;
		break;
	case INGOT_MEM_IMPORT:
		ok = !a->mem_import.reserved;
		break;
	case INGOT_PEER_MAP:
		ok = a->peer_map.bar < INGOT_NUM_BARS && !a->peer_map.reserved &&
		     ingot_pages_ok(a->peer_map.offset, a->peer_map.length, ~0ULL);
		break;
	case INGOT_IRQ_SET:
	case INGOT_IRQ_INFO:
		/* Same layout: first and count. The number of vectors is checked later. */
		ok = ingot_range_ok(a->irq_set.first, a->irq_set.count, INGOT_MAX_IRQS);
		break;
	case INGOT_RESET:
		ok = a->reset.method <= INGOT_RESET_BUS && !a->reset.reserved;
		break;
	case INGOT_EVENT_SET:
		ok = a->event_set.fd >= -1 && !a->event_set.reserved;
		break;
	case INGOT_DEBUG_INJECT:
		ok = !(a->debug_inject.faults & ~INJECT_FLAGS) && !a->debug_inject.reserved;
		break;
	}
	return ok ? 0 : -EINVAL;
}

int ingot_state_check(enum ingot_needs needs, enum ingot_state state)
{
	if (needs == INGOT_NEEDS_NOTHING)
		return 0;
	switch (state) {
	case INGOT_STATE_OWNED:
		return 0;
	case INGOT_STATE_RESETTING:
		return -EAGAIN;
	case INGOT_STATE_LOST:
		return needs == INGOT_NEEDS_DEVICE ? 0 : -EIO;
	case INGOT_STATE_FREE:
	case INGOT_STATE_GONE:
		break;
	}
	return -ENODEV;
}

/**
 * ingot_region_decode() - what an mmap() offset means
 * @mmap_offset: from user space
 * @length: of the mapping
 * @out: filled in on success; whether the thing exists and is big enough is not known yet
 *
 * Return: 0, or -EINVAL when there cannot be such a region or @length leaves it
 */
int ingot_region_decode(__u64 mmap_offset, __u64 length, struct ingot_region *out)
{
	__u64 index = mmap_offset >> INGOT_MMAP_SHIFT;

	memset(out, 0, sizeof(*out));
	out->offset = mmap_offset & (INGOT_MMAP_SPAN - 1);
	if (!ingot_pages_ok(out->offset, length, INGOT_MMAP_SPAN))
		return -EINVAL;
	if (index >= 2 * INGOT_MMAP_WC) {
		out->memory = true;
		index -= 2 * INGOT_MMAP_WC;
		if (!index || index > INGOT_MAX_HANDLES)
			return -EINVAL;
	} else {
		out->wc = index & INGOT_MMAP_WC;
		index &= INGOT_MMAP_WC - 1;
		if (index >= INGOT_NUM_BARS)
			return -EINVAL;
	}
	out->index = index;
	return 0;
}

__u64 ingot_region_encode(__u32 handle)
{
	return ((__u64)handle + 2 * INGOT_MMAP_WC) << INGOT_MMAP_SHIFT;
}

/* @used_pages is what others already have; all three may be anything. */
bool ingot_fits(__u64 used_pages, __u64 more_pages, __u64 limit_pages)
{
	return used_pages <= limit_pages && more_pages <= limit_pages - used_pages;
}

/* Append a piece to @count segments, or grow the last one when it continues there. */
size_t ingot_segs_add(struct ingot_seg *segs, size_t count, __u64 dma, __u64 len)
{
	struct ingot_seg *last = count ? &segs[count - 1] : NULL;

	if (last && last->dma + last->len == dma && dma) {
		last->len += len;
		return count;
	}
	segs[count].dma = dma;
	segs[count].len = len;
	return count + 1;
}

/* Count one interrupt in the window of time @window; true once there are more than @burst. */
bool ingot_rate_exceeded(struct ingot_rate *r, __u64 window, __u32 burst)
{
	if (r->window != window) {
		r->window = window;
		r->in_window = 0;
	}
	return burst && ++r->in_window > burst;
}
