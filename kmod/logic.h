/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of the module that is arithmetic: which arguments are acceptable, what an mmap()
 * offset means, whether memory fits a limit, how pieces become segments, when an interrupt is
 * a storm. Nothing in here sleeps, allocates or knows a kernel object, so tests/kmod compiles
 * the same file in user space under sanitizers.
 */
#ifndef INGOT_LOGIC_H
#define INGOT_LOGIC_H

#include "ingot_uapi.h"

#ifndef __KERNEL__
#include <stdbool.h>
#include <stddef.h>
#endif

/* Limits of the interface; the header for user space states them. */
#define INGOT_MAX_BYTES		(64ULL << 30)
#define INGOT_MAX_CONTIG	(4ULL << 20)
#define INGOT_MAX_HANDLES	65536U
#define INGOT_MAX_IRQS		32U
#define INGOT_HUGE_BYTES	(2ULL << 20)
#define INGOT_MMAP_SPAN		((__u64)1 << INGOT_MMAP_SHIFT)
/* The smallest page of every kernel that the module runs on; the code checks PAGE_SIZE again. */
#define INGOT_PAGE		4096ULL

/* In which states a call makes sense. */
enum ingot_needs {
	INGOT_NEEDS_NOTHING,	/* answers even when the device is gone */
	INGOT_NEEDS_DEVICE,	/* bound, but may be lost */
	INGOT_NEEDS_WORKING,
};

/* One row per call: what the dispatcher must know before it believes an argument. */
struct ingot_call_rule {
	__u32 nr;
	__u32 min_size;		/* of the first version of the structure */
	__u32 size;
	__u32 flags;		/* the known ones */
	enum ingot_needs needs;
};

struct ingot_header {
	__u32 argsz;
	__u32 flags;
};

/* All arguments; what lies on the dispatcher's stack. */
union ingot_args {
	struct ingot_header header;
	struct ingot_info info;
	struct ingot_bar bar;
	struct ingot_cfg_read cfg_read;
	struct ingot_cfg_op cfg_op;
	struct ingot_mem_alloc mem_alloc;
	struct ingot_mem_pin mem_pin;
	struct ingot_mem_segs mem_segs;
	struct ingot_mem_free mem_free;
	struct ingot_mem_export mem_export;
	struct ingot_mem_import mem_import;
	struct ingot_peer_map peer_map;
	struct ingot_irq_set irq_set;
	struct ingot_irq_info irq_info;
	struct ingot_reset reset;
	struct ingot_event_set event_set;
	struct ingot_event_get event_get;
	struct ingot_debug_inject debug_inject;
};

/* What an mmap() offset names. */
struct ingot_region {
	bool memory;		/* a handle, not a BAR */
	bool wc;
	__u32 index;		/* handle or BAR */
	__u64 offset;		/* bytes from its start */
};

/* A fixed window of time in which interrupts are counted. */
struct ingot_rate {
	__u64 window;
	__u32 in_window;
};

const struct ingot_call_rule *ingot_rule_of(__u32 nr);
int ingot_args_check(__u32 nr, const union ingot_args *a);
int ingot_state_check(enum ingot_needs needs, enum ingot_state state);

bool ingot_range_ok(__u64 offset, __u64 length, __u64 size);
bool ingot_pages_ok(__u64 offset, __u64 length, __u64 size);
int ingot_region_decode(__u64 mmap_offset, __u64 length, struct ingot_region *out);
__u64 ingot_region_encode(__u32 handle);
bool ingot_fits(__u64 used_pages, __u64 more_pages, __u64 limit_pages);
size_t ingot_segs_add(struct ingot_seg *segs, size_t count, __u64 dma, __u64 len);
bool ingot_rate_exceeded(struct ingot_rate *r, __u64 window, __u32 burst);

#endif
