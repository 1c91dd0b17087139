/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * ingot.ko: one PCI device in the hands of one process
 *
 * A device bound to the module appears as /dev/ingot<N>. Whoever has it open owns the
 * device: maps its BARs with mmap(), gives it memory, receives its interrupts through
 * eventfds, and resets it. The module knows PCI, memory and interrupts, and no queue,
 * packet or vendor.
 */

/**
 * DOC: Versioning
 *
 * Every argument structure begins with @argsz, the size that the caller was compiled
 * with, and @flags. Within one major version (&INGOT_ABI_MAJOR):
 *
 * - a structure only grows at its end, and zero in a new member means what its absence
 *   meant;
 * - an argument that is shorter than the first version of its structure fails with
 *   EINVAL, one that is longer than the module's fails with E2BIG unless the excess is
 *   zero, so a new library runs on an old module as long as it asks for nothing new;
 * - a flag or a value that the module does not know, and a reserved member that is not
 *   zero, fails with EINVAL;
 * - numbers, layouts and errors that are written here do not change; a call that is
 *   withdrawn leaves its number unused;
 * - &INGOT_ABI_MINOR counts additions: a caller that needs one looks at &struct
 *   ingot_info.abi_minor.
 *
 * A caller checks &struct ingot_info.abi_major and does not go on when it is another one
 * than its own.
 *
 * Layouts are the same for 32- and 64-bit processes: members are naturally aligned,
 * pointers are __u64. Members that the module fills in are marked (out); what they hold
 * on entry is ignored.
 */

/**
 * DOC: Errors of all calls
 *
 * EFAULT   the argument cannot be read or written
 * EINVAL   too short, unknown flag, reserved member not zero, value out of range
 * E2BIG    longer than the module knows, and what it does not know is not zero
 * ENOTTY   no such call
 * ENODEV   the device is gone, or this session has ended
 * EIO      the device is lost after an error: INGOT_RESET, INGOT_EVENT_* and
 *          INGOT_GET_INFO still work
 * EAGAIN   somebody else is resetting the device at this moment
 * EPERM    the caller lives in another user namespace than the one that opened the device
 */

/**
 * DOC: Opening
 *
 * EBUSY    the device is owned, or its isolation group is shared with a driver or with
 *          another user's session
 * EPERM    without a translating IOMMU and isolated MSI the opener needs CAP_SYS_RAWIO,
 *          the module parameter allow_unsafe_dma and a kernel that is not locked down
 *
 * The session ends with the last reference to the file, or when the process that opened
 * it dies: mappings are revoked (SIGBUS), the device is stopped and reset, then its
 * memory is given back.
 */
#ifndef INGOT_UAPI_H
#define INGOT_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>
#ifdef __KERNEL__
#include <linux/build_bug.h>
#else
#include <assert.h>
#endif

#define INGOT_ABI_MAJOR	1
#define INGOT_ABI_MINOR	0

#define INGOT_IOC_TYPE	0xE7

/* The size is in argsz, not in the number: a structure that grows keeps its number. */
#define INGOT_GET_INFO		_IO(INGOT_IOC_TYPE, 0x00)
#define INGOT_GET_BAR		_IO(INGOT_IOC_TYPE, 0x01)
#define INGOT_CFG_READ		_IO(INGOT_IOC_TYPE, 0x02)
#define INGOT_CFG_OP		_IO(INGOT_IOC_TYPE, 0x03)
#define INGOT_MEM_ALLOC		_IO(INGOT_IOC_TYPE, 0x10)
#define INGOT_MEM_PIN		_IO(INGOT_IOC_TYPE, 0x11)
#define INGOT_MEM_SEGS		_IO(INGOT_IOC_TYPE, 0x12)
#define INGOT_MEM_FREE		_IO(INGOT_IOC_TYPE, 0x13)
#define INGOT_MEM_EXPORT	_IO(INGOT_IOC_TYPE, 0x14)
#define INGOT_MEM_IMPORT	_IO(INGOT_IOC_TYPE, 0x15)
#define INGOT_PEER_MAP		_IO(INGOT_IOC_TYPE, 0x16)
/* 0x17 stays unused: all memory is coherent, see DOC: Memory. */
#define INGOT_IRQ_SET		_IO(INGOT_IOC_TYPE, 0x20)
#define INGOT_IRQ_INFO		_IO(INGOT_IOC_TYPE, 0x21)
#define INGOT_RESET		_IO(INGOT_IOC_TYPE, 0x30)
#define INGOT_EVENT_SET		_IO(INGOT_IOC_TYPE, 0x31)
#define INGOT_EVENT_GET		_IO(INGOT_IOC_TYPE, 0x32)
/* Only in a module built with INGOT_DEBUG=1. */
#define INGOT_DEBUG_INJECT	_IO(INGOT_IOC_TYPE, 0x3F)

/**
 * enum ingot_dma_mode - what stands between the device and the machine's memory
 * @INGOT_DMA_NONE: nothing, DMA addresses are physical addresses
 * @INGOT_DMA_IDENTITY: an IOMMU that maps everything to itself (iommu=pt)
 * @INGOT_DMA_LAZY: a translating IOMMU whose invalidations the kernel batches; the module
 *	flushes before it gives pages back
 * @INGOT_DMA_STRICT: a translating IOMMU that forgets a mapping at once
 */
enum ingot_dma_mode {
	INGOT_DMA_NONE		= 0,
	INGOT_DMA_IDENTITY	= 1,
	INGOT_DMA_LAZY		= 2,
	INGOT_DMA_STRICT	= 3,
};

/**
 * enum ingot_state - where the device is
 * @INGOT_STATE_FREE: nobody has it open
 * @INGOT_STATE_OWNED: in use
 * @INGOT_STATE_RESETTING: being reset by somebody else than the owner
 * @INGOT_STATE_LOST: an error or a failed reset; bus mastering is off, BARs are revoked,
 *	INGOT_RESET may bring it back
 * @INGOT_STATE_GONE: unbound or unplugged, for ever as far as this file is concerned
 */
enum ingot_state {
	INGOT_STATE_FREE	= 0,
	INGOT_STATE_OWNED	= 1,
	INGOT_STATE_RESETTING	= 2,
	INGOT_STATE_LOST	= 3,
	INGOT_STATE_GONE	= 4,
};

#define INGOT_CAP_FLR		0x001ULL	/* function level reset */
#define INGOT_CAP_BUS_RESET	0x002ULL	/* alone below its bridge, which can reset it */
#define INGOT_CAP_REBAR		0x004ULL	/* has resizable BARs */
#define INGOT_CAP_ATOMICS	0x008ULL	/* 32- and 64-bit atomics reach the root port */
#define INGOT_CAP_P2P		0x010ULL	/* the kernel can judge distances between peers */
#define INGOT_CAP_DMABUF	0x020ULL	/* INGOT_MEM_EXPORT and INGOT_MEM_IMPORT work */
#define INGOT_CAP_MSI_ISOLATED	0x040ULL	/* cannot forge foreign interrupts */
#define INGOT_CAP_ACS_REDIRECT	0x080ULL	/* peers are reached through the root */
#define INGOT_CAP_NEEDS_RESET	0x100ULL	/* its last session ended without one */
#define INGOT_CAP_DEBUG		0x200ULL	/* INGOT_DEBUG_INJECT works */

/**
 * struct ingot_info - INGOT_GET_INFO: what the device is and what can be done with it
 * @argsz: sizeof(struct ingot_info)
 * @flags: zero
 * @abi_major: (out) &INGOT_ABI_MAJOR of the module
 * @abi_minor: (out) &INGOT_ABI_MINOR of the module
 * @vendor: (out) PCI vendor
 * @device: (out) PCI device
 * @subvendor: (out) PCI subsystem vendor
 * @subdevice: (out) PCI subsystem device
 * @class_rev: (out) class code << 8 | revision, as in config space
 * @domain: (out) PCI domain
 * @bdf: (out) bus << 8 | device << 3 | function
 * @state: (out) &enum ingot_state
 * @dma_mode: (out) &enum ingot_dma_mode
 * @dma_bits: (out) width of the DMA addresses that the device is given
 * @reserved: (out) zero
 * @num_irqs: (out) interrupt vectors; 0 when the device has neither MSI nor MSI-X
 * @numa_node: (out) the node it is attached to, -1 when unknown
 * @caps: (out) INGOT_CAP_*
 * @generation: (out) counts resets and everything else that makes the device forget
 *
 * Works in every state.
 */
struct ingot_info {
	__u32 argsz;
	__u32 flags;
	__u16 abi_major;
	__u16 abi_minor;
	__u16 vendor;
	__u16 device;
	__u16 subvendor;
	__u16 subdevice;
	__u32 class_rev;
	__u32 domain;
	__u32 bdf;
	__u32 state;
	__u32 dma_mode;
	__u32 dma_bits;
	__u32 num_irqs;
	__s32 numa_node;
	__u32 reserved;
	__u64 caps;
	__u64 generation;
};

/*
 * mmap() offsets. BARs: (index | write-combining) << INGOT_MMAP_SHIFT, in reach of a
 * 32-bit process. Memory: what INGOT_MEM_ALLOC says, beyond that reach. MAP_SHARED only,
 * never PROT_EXEC; a child does not inherit the mapping.
 */
#define INGOT_MMAP_SHIFT	40
#define INGOT_MMAP_WC		8
#define INGOT_NUM_BARS		6

#define INGOT_BAR_MEM		0x01	/* memory, not I/O ports */
#define INGOT_BAR_64		0x02
#define INGOT_BAR_PREFETCH	0x04
#define INGOT_BAR_MMAP		0x08	/* can be mapped uncached, at off_uc */
#define INGOT_BAR_WC		0x10	/* can be mapped write-combining too, at off_wc */

/**
 * struct ingot_bar - INGOT_GET_BAR: one BAR
 * @argsz: sizeof(struct ingot_bar)
 * @flags: zero
 * @index: 0..5; EINVAL when the device has no such BAR
 * @bar_flags: (out) INGOT_BAR_*
 * @size: (out) bytes
 * @off_uc: (out) mmap() offset of the uncached mapping
 * @off_wc: (out) mmap() offset of the write-combining mapping
 *
 * A BAR is mapped in one of the two ways: until the session ends, mmap() at the other
 * offset fails with EBUSY. An access to a mapping while the device is being reset, is
 * lost or gone is a SIGBUS. After a reset mappings work again.
 */
struct ingot_bar {
	__u32 argsz;
	__u32 flags;
	__u32 index;
	__u32 bar_flags;
	__u64 size;
	__u64 off_uc;
	__u64 off_wc;
};

/**
 * struct ingot_cfg_read - INGOT_CFG_READ: read config space
 * @argsz: sizeof(struct ingot_cfg_read)
 * @flags: zero
 * @offset: byte offset below 4096, a multiple of @width
 * @width: 1, 2 or 4
 * @value: (out) all ones where there is nothing
 * @reserved: zero
 *
 * There is no call that writes: moved BARs, a message address or bus mastering set by
 * hand would break isolation.
 */
struct ingot_cfg_read {
	__u32 argsz;
	__u32 flags;
	__u32 offset;
	__u32 width;
	__u32 value;
	__u32 reserved;
};

/**
 * enum ingot_cfg_op_code - the changes to config space that are offered
 * @INGOT_CFG_MASTER: bus mastering; @arg 1 on, 0 off and wait for what is under way
 *	(ETIMEDOUT when it does not end)
 * @INGOT_CFG_ATOMICS: let the device issue atomics; @arg 1; EOPNOTSUPP when the path has
 *	none
 * @INGOT_CFG_RELAXED: relaxed ordering; @arg 1 on, 0 off
 * @INGOT_CFG_READ_SIZE: largest read request; @arg 128..4096 bytes, a power of two
 */
enum ingot_cfg_op_code {
	INGOT_CFG_MASTER	= 0,
	INGOT_CFG_ATOMICS	= 1,
	INGOT_CFG_RELAXED	= 2,
	INGOT_CFG_READ_SIZE	= 3,
};

/**
 * struct ingot_cfg_op - INGOT_CFG_OP: change config space
 * @argsz: sizeof(struct ingot_cfg_op)
 * @flags: zero
 * @op: &enum ingot_cfg_op_code
 * @arg: see there
 *
 * A session begins with bus mastering off, and every reset switches it off.
 */
struct ingot_cfg_op {
	__u32 argsz;
	__u32 flags;
	__u32 op;
	__u32 arg;
};

/**
 * DOC: Memory
 *
 * A handle is memory that the device may reach. All of it is coherent: the module does
 * not bind to a device that does not snoop, and refuses memory that would be bounced. All
 * of it counts as pinned against RLIMIT_MEMLOCK of the process that asked (CAP_IPC_LOCK
 * lifts the limit); what the module allocates is charged to the caller's memory cgroup
 * too, and reads zero.
 */
#define INGOT_MEM_CONTIG	0x01	/* contiguous, one segment, up to 4 MiB */
#define INGOT_MEM_HUGE		0x02	/* in pieces of 2 MiB, and size is a multiple */
#define INGOT_MEM_NODE		0x04	/* from numa_node or not at all */

/**
 * struct ingot_mem_alloc - INGOT_MEM_ALLOC: memory from the kernel
 * @argsz: sizeof(struct ingot_mem_alloc)
 * @flags: INGOT_MEM_*
 * @size: bytes, a multiple of the page size
 * @numa_node: with INGOT_MEM_NODE, else zero
 * @handle: (out) never zero
 * @num_segs: (out) segments, see INGOT_MEM_SEGS
 * @reserved: zero
 * @mmap_offset: (out) where to mmap() it, cached
 *
 * ENOMEM: limit, cgroup, no such piece, or more handles than 65,536. EOPNOTSUPP: the
 * device cannot address the memory.
 */
struct ingot_mem_alloc {
	__u32 argsz;
	__u32 flags;
	__u64 size;
	__s32 numa_node;
	__u32 handle;
	__u32 num_segs;
	__u32 reserved;
	__u64 mmap_offset;
};

#define INGOT_PIN_READONLY	0x01	/* the device only reads it */

/**
 * struct ingot_mem_pin - INGOT_MEM_PIN: memory of the caller
 * @argsz: sizeof(struct ingot_mem_pin)
 * @flags: INGOT_PIN_*
 * @va: page aligned address
 * @size: bytes, a multiple of the page size, at most 64 GiB
 * @handle: (out) never zero
 * @num_segs: (out) segments, see INGOT_MEM_SEGS
 *
 * EFAULT: not mapped, or not writable without INGOT_PIN_READONLY. ENOMEM: limit. EINTR:
 * the process was killed. EOPNOTSUPP: the device cannot address the memory. A child after
 * fork() does not get the same pages: use MADV_DONTFORK.
 */
struct ingot_mem_pin {
	__u32 argsz;
	__u32 flags;
	__u64 va;
	__u64 size;
	__u32 handle;
	__u32 num_segs;
};

/**
 * struct ingot_seg - a piece of memory as the device sees it
 * @dma: address
 * @len: bytes
 */
struct ingot_seg {
	__u64 dma;
	__u64 len;
};

/**
 * struct ingot_mem_segs - INGOT_MEM_SEGS: where the device finds a memory
 * @argsz: sizeof(struct ingot_mem_segs)
 * @flags: zero
 * @handle: which
 * @first: first segment wanted
 * @count: how many fit at @segs; (out) how many were written, 0 at the end
 * @total: (out) how many there are
 * @segs: address of an array of &struct ingot_seg
 *
 * ENOENT: no such handle. EOWNERDEAD: imported memory whose exporter has taken it back.
 */
struct ingot_mem_segs {
	__u32 argsz;
	__u32 flags;
	__u32 handle;
	__u32 first;
	__u32 count;
	__u32 total;
	__u64 segs;
};

/**
 * struct ingot_mem_free - INGOT_MEM_FREE: take memory away from the device
 * @argsz: sizeof(struct ingot_mem_free)
 * @flags: zero
 * @handle: which
 * @reserved: zero
 *
 * ENOENT: no such handle. EBUSY: still mapped or exported. When it returns the device
 * cannot reach the memory through an IOMMU; without one the caller must know that the
 * device has stopped using it.
 */
struct ingot_mem_free {
	__u32 argsz;
	__u32 flags;
	__u32 handle;
	__u32 reserved;
};

#define INGOT_EXPORT_BAR	0x01	/* a range of a BAR, not of a handle */

/**
 * struct ingot_mem_export - INGOT_MEM_EXPORT: a dma-buf for another device
 * @argsz: sizeof(struct ingot_mem_export)
 * @flags: INGOT_EXPORT_*
 * @source: handle from INGOT_MEM_ALLOC, or index of a BAR
 * @fd: (out) close-on-exec
 * @offset: first byte, page aligned
 * @length: bytes, a multiple of the page size
 *
 * The importer must understand revocation (dynamic attachment with peer to peer): a reset
 * or the end of the session takes the memory away. ENOENT: no such handle. EOPNOTSUPP:
 * this kind of memory, or no dma-buf in the kernel.
 */
struct ingot_mem_export {
	__u32 argsz;
	__u32 flags;
	__u32 source;
	__s32 fd;
	__u64 offset;
	__u64 length;
};

/**
 * struct ingot_mem_import - INGOT_MEM_IMPORT: somebody else's dma-buf for this device
 * @argsz: sizeof(struct ingot_mem_import)
 * @flags: zero
 * @fd: a dma-buf
 * @handle: (out) never zero
 * @num_segs: (out) segments, see INGOT_MEM_SEGS
 * @reserved: zero
 * @size: (out) bytes
 *
 * When the exporter takes the memory back, bus mastering is switched off before it is
 * gone, the handle is dead, and there is an event with INGOT_EVENT_PEER_GONE. EBADF: not
 * a dma-buf. EOPNOTSUPP: no dma-buf in the kernel.
 */
struct ingot_mem_import {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 handle;
	__u32 num_segs;
	__u32 reserved;
	__u64 size;
};

/**
 * struct ingot_peer_map - INGOT_PEER_MAP: let this device reach a BAR of another one
 * @argsz: sizeof(struct ingot_peer_map)
 * @flags: zero
 * @fd: the other device's open /dev/ingot<N>
 * @bar: index of its BAR
 * @offset: first byte, page aligned
 * @length: bytes, a multiple of the page size
 * @handle: (out) never zero
 * @reserved: zero
 *
 * One segment. Taken back, as in &struct ingot_mem_import, when the other device is
 * reset, closed or gone. EBADF: not such a file. EPERM: opened by another user. EXDEV:
 * the two cannot reach each other. EINVAL: this device itself.
 */
struct ingot_peer_map {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 bar;
	__u64 offset;
	__u64 length;
	__u32 handle;
	__u32 reserved;
};

/**
 * struct ingot_irq_set - INGOT_IRQ_SET: which eventfds interrupts signal
 * @argsz: sizeof(struct ingot_irq_set)
 * @flags: zero
 * @first: first vector
 * @count: how many
 * @fds: address of an array of @count __s32: an eventfd, or -1 to detach
 *
 * Setting a vector that was stopped for its rate (&struct ingot_irq_count.masked) starts
 * it again. All or none are set. EBADF, EINVAL: not an eventfd.
 */
struct ingot_irq_set {
	__u32 argsz;
	__u32 flags;
	__u32 first;
	__u32 count;
	__u64 fds;
};

/**
 * struct ingot_irq_count - what a vector has seen
 * @count: interrupts since the session began or the device was reset
 * @masked: 1 when the vector was stopped because it fired more than irq_burst times in 10
 *	ms
 * @reserved: zero
 */
struct ingot_irq_count {
	__u64 count;
	__u32 masked;
	__u32 reserved;
};

/**
 * struct ingot_irq_info - INGOT_IRQ_INFO: to find lost interrupts
 * @argsz: sizeof(struct ingot_irq_info)
 * @flags: zero
 * @first: first vector
 * @count: how many
 * @counts: address of an array of @count &struct ingot_irq_count
 */
struct ingot_irq_info {
	__u32 argsz;
	__u32 flags;
	__u32 first;
	__u32 count;
	__u64 counts;
};

/**
 * enum ingot_reset_method - how
 * @INGOT_RESET_AUTO: what the kernel prefers (reset_method in the device's sysfs folder)
 * @INGOT_RESET_FLR: function level reset
 * @INGOT_RESET_BUS: secondary bus reset, when the device is alone below its bridge
 */
enum ingot_reset_method {
	INGOT_RESET_AUTO	= 0,
	INGOT_RESET_FLR		= 1,
	INGOT_RESET_BUS		= 2,
};

#define INGOT_RESET_KEEP_MEM	0x01	/* handles survive; exports do not */

/**
 * struct ingot_reset - INGOT_RESET: start the device anew
 * @argsz: sizeof(struct ingot_reset)
 * @flags: INGOT_RESET_*
 * @method: &enum ingot_reset_method
 * @reserved: zero
 * @generation: (out) after the reset
 *
 * Mappings are revoked during the reset, and eventfds are detached. Without
 * INGOT_RESET_KEEP_MEM all handles are freed, and mappings of their memory are SIGBUS
 * from then on. Bus mastering is off afterwards. ENOTTY: the device has no such reset.
 * Any other error: the device is lost.
 */
struct ingot_reset {
	__u32 argsz;
	__u32 flags;
	__u32 method;
	__u32 reserved;
	__u64 generation;
};

/**
 * struct ingot_event_set - INGOT_EVENT_SET: an eventfd that is signalled by events
 * @argsz: sizeof(struct ingot_event_set)
 * @flags: zero
 * @fd: an eventfd, or -1 to detach
 * @reserved: zero
 *
 * poll() on the device's file says the same: EPOLLPRI an event was not read, EPOLLERR
 * lost, EPOLLHUP gone.
 */
struct ingot_event_set {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

#define INGOT_EVENT_ADMIN_RESET	0x01	/* reset through sysfs or by a sibling's driver */
#define INGOT_EVENT_ERROR	0x02	/* PCI error, or a reset failed */
#define INGOT_EVENT_REMOVED	0x04	/* unbound or unplugged */
#define INGOT_EVENT_PEER_GONE	0x08	/* foreign memory was taken back, MASTER is off */
#define INGOT_EVENT_IRQ_MASKED	0x10	/* a vector was stopped for its rate */

/**
 * struct ingot_event_get - INGOT_EVENT_GET: what happened
 * @argsz: sizeof(struct ingot_event_get)
 * @flags: zero
 * @state: (out) &enum ingot_state
 * @reasons: (out) INGOT_EVENT_* since the last call, which this call forgets
 * @generation: (out) as in &struct ingot_info
 *
 * Works in every state.
 */
struct ingot_event_get {
	__u32 argsz;
	__u32 flags;
	__u32 state;
	__u32 reasons;
	__u64 generation;
};

#define INGOT_INJECT_BAD_ORDER	0x01	/* free the memory before the device is stopped */
#define INGOT_INJECT_PENDING	0x02	/* transactions never end */
#define INGOT_INJECT_RESET	0x04	/* resets fail */
#define INGOT_INJECT_BOUNCE	0x08	/* memory is out of the device's reach */

/**
 * struct ingot_debug_inject - INGOT_DEBUG_INJECT: force an error path until the session has ended
 * @argsz: sizeof(struct ingot_debug_inject)
 * @flags: zero
 * @faults: INGOT_INJECT_*
 * @reserved: zero
 */
struct ingot_debug_inject {
	__u32 argsz;
	__u32 flags;
	__u32 faults;
	__u32 reserved;
};

#define INGOT_SIZE(name, size) static_assert(sizeof(struct name) == (size), #name)
INGOT_SIZE(ingot_info, 72);
INGOT_SIZE(ingot_bar, 40);
INGOT_SIZE(ingot_cfg_read, 24);
INGOT_SIZE(ingot_cfg_op, 16);
INGOT_SIZE(ingot_mem_alloc, 40);
INGOT_SIZE(ingot_mem_pin, 32);
INGOT_SIZE(ingot_seg, 16);
INGOT_SIZE(ingot_mem_segs, 32);
INGOT_SIZE(ingot_mem_free, 16);
INGOT_SIZE(ingot_mem_export, 32);
INGOT_SIZE(ingot_mem_import, 32);
INGOT_SIZE(ingot_peer_map, 40);
INGOT_SIZE(ingot_irq_set, 24);
INGOT_SIZE(ingot_irq_count, 16);
INGOT_SIZE(ingot_irq_info, 24);
INGOT_SIZE(ingot_reset, 24);
INGOT_SIZE(ingot_event_set, 16);
INGOT_SIZE(ingot_event_get, 24);
INGOT_SIZE(ingot_debug_inject, 16);
#undef INGOT_SIZE

#endif
