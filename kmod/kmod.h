/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the module share, and the rules that hold between them.
 *
 * A &struct ingot_dev lives from probe until the last file that knows it is closed; its pdev is
 * a counted reference, but may be touched as a device only while @state is not GONE. A &struct
 * ingot_session is one open file. It can end before the file is closed (death of the opener,
 * removal): then @dev->session is no longer it, and every call fails.
 *
 * Locks, outermost first:
 *
 *   device_lock(pdev)   by the driver core around probe, remove, suspend, error handlers and
 *                       resets by others; by us around open, end of a session, INGOT_RESET
 *   group_mutex         isolation groups: one open at a time looks at its neighbours
 *   dev->lock           read: a call that uses the device; write: whatever changes its life
 *   dev->exports_lock   the list of dma-bufs that we gave away; their release takes it as well
 *   dma_resv            of one dma-buf
 *   dev->cfg_lock       read-modify-write of the command register
 *   mmap_lock           of anybody; nests inside nothing above: user memory is never touched
 *                       while one of them is held
 *   dev->map_lock       read: page faults; write: revoke
 *   vector->lock, dev->event_lock   spinlocks, taken in interrupts
 *
 * Page faults know only map_lock: a fault that waited for dev->lock would turn the order of
 * mmap_lock and dev->lock around.
 */
#ifndef INGOT_KMOD_H
#define INGOT_KMOD_H

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/eventfd.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "logic.h"

struct dma_buf;
struct dma_buf_attachment;
struct ingot_dev;
struct ingot_session;

/* What a BAR is, from probe on. */
struct ingot_bar_info {
	resource_size_t start;
	resource_size_t len;
	u32 flags;		/* INGOT_BAR_*; 0: ports, or absent */
	bool mapped, wc;	/* how, in this session; map_lock */
};

struct ingot_vector {
	struct ingot_dev *dev;
	spinlock_t lock;	/* all below */
	struct eventfd_ctx *ctx;
	u64 count;
	struct ingot_rate rate;
	bool masked;
};

enum ingot_mem_kind {
	INGOT_MEM_ALLOCATED,
	INGOT_MEM_PINNED,
	INGOT_MEM_FOREIGN,	/* a dma-buf, or a BAR of a peer dressed as one */
};

/*
 * Memory behind a handle. The last reference gives the pages back; what the device can reach
 * (@mapped) is undone before that, explicitly, by ingot_mem_unmap().
 */
struct ingot_mem {
	struct kref ref;	/* handle, VMAs, exports */
	struct ingot_dev *dev;
	enum ingot_mem_kind kind;
	bool readonly;
	bool mapped;		/* the device can reach it; dma_resv for FOREIGN */
	bool dead;		/* map_lock: no new VMA, fault or export */
	atomic_t users;		/* VMAs and exports */
	u64 size;
	u32 handle;

	struct page **pages;	/* one per PAGE_SIZE */
	unsigned long num_pages;
	struct mm_struct *mm;	/* whom @charged pages count against */
	unsigned long charged;
	struct sg_table sgt;

	struct dma_buf_attachment *attach;
	struct sg_table *foreign_sgt;

	struct ingot_seg *segs;	/* constant once there is a handle */
	u32 num_segs;
};

struct ingot_session {
	struct ingot_dev *dev;
	struct address_space *mapping;	/* of the open file: what revoke empties */
	struct pid *tgid;		/* the opener */
	const struct cred *cred;
	struct xarray mems;
};

struct ingot_dev {
	struct device dev;
	struct cdev cdev;
	struct list_head node;		/* all devices, group_mutex */
	int id;
	struct pci_dev *pdev;
	struct ingot_bar_info bars[INGOT_NUM_BARS];
	struct pci_saved_state *saved;
	u64 caps;
	u32 dma_bits;
	int numa;
	enum ingot_dma_mode dma_mode;	/* at probe; what is said when it is gone */

	struct rw_semaphore lock;
	enum ingot_state state;
	struct ingot_session *session;	/* map_lock as well */
	bool owned;			/* with owner: what group_mutex protects */
	kuid_t owner;
	u64 generation;
	atomic64_t pinned_pages;
	bool needs_reset;
	bool poisoned;			/* could not be stopped: its memory is never given back */
	u32 inject;

	struct rw_semaphore map_lock;
	bool blocked;			/* page faults are SIGBUS */

	struct mutex cfg_lock;		/* command register */
	struct mutex exports_lock;
	struct list_head exports;
	atomic_t stale_maps;		/* importers that hold on to a revoked export */

	struct ingot_vector *vectors;
	u32 num_vectors;

	spinlock_t event_lock;		/* event_ctx and events */
	struct eventfd_ctx *event_ctx;
	u32 events;
	wait_queue_head_t event_wait;

	struct dentry *debug;
};

/* The calls of ingot_uapi.h, one each; arguments have been checked. */
typedef int ingot_handler(struct ingot_session *s, union ingot_args *args);
ingot_handler ingot_get_bar, ingot_cfg_op, ingot_reset, ingot_mem_alloc, ingot_mem_pin,
	ingot_mem_segs, ingot_mem_free, ingot_mem_export, ingot_mem_import, ingot_peer_map,
	ingot_irq_set, ingot_irq_info, ingot_event_set, ingot_event_get;

/* main.c */
extern unsigned int ingot_irq_burst;
extern bool ingot_allow_unsafe_dma;
extern struct pci_driver ingot_pci_driver;
extern struct class ingot_class;
extern struct mutex ingot_group_mutex;
struct ingot_dev *ingot_find(struct pci_dev *pdev);

/* file.c */
extern const struct file_operations ingot_fops;
struct ingot_session *ingot_session_of(struct file *file);
int ingot_enter(struct ingot_session *s, enum ingot_needs needs);
void ingot_leave(struct ingot_session *s);

/* bar.c */
void ingot_bars_init(struct ingot_dev *d);
void ingot_bars_forget(struct ingot_dev *d);
int ingot_mmap(struct file *file, struct vm_area_struct *vma);
void ingot_revoke(struct ingot_dev *d, bool memory);
void ingot_unrevoke(struct ingot_dev *d);

/* mem.c */
struct ingot_mem *ingot_mem_new(struct ingot_dev *d, enum ingot_mem_kind kind, u64 size);
int ingot_mem_take_segs(struct ingot_mem *m, struct sg_table *sgt);
int ingot_mem_publish(struct ingot_session *s, struct ingot_mem *m);
struct ingot_mem *ingot_mem_get(struct ingot_session *s, u32 handle);
void ingot_mem_put(struct ingot_mem *m);
void ingot_mem_kill_all(struct ingot_session *s);
void ingot_mem_unmap_all(struct ingot_session *s, bool poison);
void ingot_mem_drop_all(struct ingot_session *s);
int ingot_map_sgtable(struct ingot_dev *d, struct device *dev, struct sg_table *sgt,
		      enum dma_data_direction dir);

/* dmabuf.c */
void ingot_exports_revoke(struct ingot_dev *d);
void ingot_foreign_unmap(struct ingot_mem *m);

/* irq.c */
int ingot_irqs_init(struct ingot_dev *d, u32 n);
void ingot_irqs_detach(struct ingot_dev *d);
void ingot_event(struct ingot_dev *d, u32 reason);
void ingot_event_detach(struct ingot_dev *d);

/* reset.c */
void ingot_master(struct ingot_dev *d, bool on);
bool ingot_stop(struct ingot_dev *d);
void ingot_restore(struct ingot_dev *d);
bool ingot_alone_on_bus(struct pci_dev *pdev);
void ingot_session_end(struct ingot_dev *d, bool gone);
extern const struct pci_error_handlers ingot_error_handlers;
extern const struct dev_pm_ops ingot_pm_ops;

/* policy.c */
enum ingot_dma_mode ingot_dma_mode(struct ingot_dev *d);
bool ingot_msi_isolated(struct ingot_dev *d);
bool ingot_translated(struct ingot_dev *d);
void ingot_iotlb_flush(struct ingot_dev *d);
int ingot_may_open(struct ingot_dev *d);
int ingot_may_bind(struct pci_dev *pdev, bool force_console);
u32 ingot_dma_bits(struct pci_dev *pdev);
int ingot_may_reach(struct pci_dev *owner, struct device *client);

/* sysfs.c */
extern const struct attribute_group *ingot_groups[];
void ingot_debugfs_init(void);
void ingot_debugfs_fini(void);
void ingot_debugfs_add(struct ingot_dev *d);
void ingot_debugfs_del(struct ingot_dev *d);

#endif
