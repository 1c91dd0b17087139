// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that the device may reach: allocated here or pinned in the caller. A page is counted
 * and held before the device can reach it, and the device cannot reach it any more before it is
 * given back. User memory is touched (pinned, written to) only while no lock is held: a page
 * that a userfaultfd holds up must hold up nobody but its owner.
 */
#include <linux/capability.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "kmod.h"

#define BATCH 4096UL	/* pages between two looks at signals and the scheduler */
#define HUGE_ORDER (ilog2(INGOT_HUGE_BYTES) - PAGE_SHIFT)

struct ingot_mem *ingot_mem_new(struct ingot_dev *d, enum ingot_mem_kind kind, u64 size)
{
	struct ingot_mem *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);

	if (!m)
		return NULL;
	kref_init(&m->ref);
	get_device(&d->dev);
	m->dev = d;
	m->kind = kind;
	m->size = size;
	return m;
}

static int charge(struct ingot_mem *m, unsigned long pages)
{
	u64 limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	u64 used = atomic64_add_return(pages, &current->mm->pinned_vm) - pages;

	if (!ingot_fits(used, pages, limit) && !capable(CAP_IPC_LOCK)) {
		atomic64_sub(pages, &current->mm->pinned_vm);
		return -ENOMEM;
	}
	mmgrab(current->mm);
	m->mm = current->mm;
	m->charged = pages;
	atomic64_add(pages, &m->dev->pinned_pages);
	return 0;
}

static void give_pages_back(struct ingot_mem *m)
{
	unsigned long i, n;

	for (i = 0; i < m->num_pages; i += n) {
		n = min(BATCH, m->num_pages - i);
		if (m->kind == INGOT_MEM_PINNED)
			unpin_user_pages_dirty_lock(m->pages + i, n, !m->readonly);
		else
			release_pages(m->pages + i, n);
		cond_resched();
	}
}

static void mem_release(struct kref *ref)
{
	struct ingot_mem *m = container_of(ref, struct ingot_mem, ref);

	WARN_ON_ONCE(m->mapped);
	give_pages_back(m);
	if (m->mm) {
		atomic64_sub(m->charged, &m->mm->pinned_vm);
		mmdrop(m->mm);
		atomic64_sub(m->charged, &m->dev->pinned_pages);
	}
	sg_free_table(&m->sgt);
	kvfree(m->pages);
	kvfree(m->segs);
	put_device(&m->dev->dev);
	kfree(m);
}

void ingot_mem_put(struct ingot_mem *m)
{
	kref_put(&m->ref, mem_release);
}

struct ingot_mem *ingot_mem_get(struct ingot_session *s, u32 handle)
{
	struct ingot_mem *m;

	xa_lock(&s->mems);
	m = xa_load(&s->mems, handle);
	if (m)
		kref_get(&m->ref);
	xa_unlock(&s->mems);
	return m;
}

/* Give it a handle, which has a reference. dev->lock is held: the session cannot end meanwhile. */
int ingot_mem_publish(struct ingot_session *s, struct ingot_mem *m)
{
	int ret;

	kref_get(&m->ref);
	ret = xa_alloc(&s->mems, &m->handle, m, XA_LIMIT(1, INGOT_MAX_HANDLES),
		       GFP_KERNEL_ACCOUNT);
	if (ret)
		kref_put(&m->ref, mem_release);
	return ret == -EBUSY ? -ENOMEM : ret;
}

/*
 * dma_map_sgtable() for memory that may not be bounced. Where DMA addresses are physical ones, the
 * kernel would warn of pages beyond the device's reach, and a different address is a bounce buffer.
 */
int ingot_map_sgtable(struct ingot_dev *d, struct device *dev, struct sg_table *sgt,
		      enum dma_data_direction dir)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	bool direct = !domain || !(domain->type & __IOMMU_DOMAIN_DMA_API);
	bool bounced = d->inject & INGOT_INJECT_BOUNCE;
	struct scatterlist *sg;
	int i, ret;

	for_each_sgtable_sg(sgt, sg, i)
		bounced |= direct && sg_phys(sg) + sg->length - 1 > dma_get_mask(dev);
	if (bounced)
		return -EOPNOTSUPP;
	ret = dma_map_sgtable(dev, sgt, dir, 0);
	if (ret)
		return ret == -EIO ? -EOPNOTSUPP : ret;
	for_each_sgtable_sg(sgt, sg, i)
		bounced |= direct && sg_dma_address(sg) != sg_phys(sg);
	if (bounced) {
		dma_unmap_sgtable(dev, sgt, dir, 0);
		return -EOPNOTSUPP;
	}
	return 0;
}

/* Remember what the device sees, in as few segments as it is. */
int ingot_mem_take_segs(struct ingot_mem *m, struct sg_table *sgt)
{
	struct scatterlist *sg;
	size_t count = 0;
	int i;

	m->segs = kvmalloc_array(sgt->nents, sizeof(*m->segs), GFP_KERNEL_ACCOUNT);
	if (!m->segs)
		return -ENOMEM;
	for_each_sgtable_dma_sg(sgt, sg, i)
		count = ingot_segs_add(m->segs, count, sg_dma_address(sg), sg_dma_len(sg));
	m->num_segs = count;
	return 0;
}

static enum dma_data_direction direction(struct ingot_mem *m)
{
	return m->readonly ? DMA_TO_DEVICE : DMA_BIDIRECTIONAL;
}

/* After this, ingot_iotlb_flush() and nothing else stands before the pages can go. */
static void dev_unmap(struct ingot_mem *m)
{
	if (m->kind == INGOT_MEM_FOREIGN) {
		ingot_foreign_unmap(m);
	} else if (m->mapped) {
		dma_unmap_sgtable(&m->dev->pdev->dev, &m->sgt, direction(m), 0);
		m->mapped = false;
	}
}

static int dev_map(struct ingot_mem *m)
{
	int ret;

	ret = ingot_map_sgtable(m->dev, &m->dev->pdev->dev, &m->sgt, direction(m));
	if (ret)
		return ret;
	m->mapped = true;
	ret = ingot_mem_take_segs(m, &m->sgt);
	if (ret)
		dev_unmap(m);
	return ret;
}

/* The pages are here: show them to the device and give them a handle. */
static int mem_finish(struct ingot_session *s, struct ingot_mem *m, bool one_segment)
{
	int ret;

	ret = sg_alloc_table_from_pages(&m->sgt, m->pages, m->num_pages, 0, m->size,
					GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;
	ret = ingot_enter(s, INGOT_NEEDS_WORKING);
	if (ret)
		return ret;
	ret = dev_map(m);
	if (!ret) {
		ret = one_segment && m->num_segs != 1 ? -ENOMEM : ingot_mem_publish(s, m);
		if (ret) {
			dev_unmap(m);
			ingot_iotlb_flush(m->dev);
		}
	}
	ingot_leave(s);
	return ret;
}

static int alloc_pages_for(struct ingot_mem *m, unsigned long wanted, u32 flags, int node)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
	unsigned int order = HUGE_ORDER;
	unsigned long i, n;
	struct page *page;

	if (flags & INGOT_MEM_CONTIG)
		order = get_order((u64)wanted << PAGE_SHIFT);
	if (flags & INGOT_MEM_NODE)
		gfp |= __GFP_THISNODE;
	while (m->num_pages < wanted) {
		if (fatal_signal_pending(current))
			return -EINTR;
		n = wanted - m->num_pages;
		if (!(flags & INGOT_MEM_CONTIG))
			order = min_t(unsigned int, order, ilog2(n));
		page = alloc_pages_node(node, gfp | (order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL),
					order);
		if (!page && order && !(flags & (INGOT_MEM_CONTIG | INGOT_MEM_HUGE))) {
			order--;
			continue;
		}
		if (!page)
			return -ENOMEM;
		if (order)
			split_page(page, order);
		for (i = 0; i < 1UL << order; i++)
			if (i < n)
				m->pages[m->num_pages++] = page + i;
			else
				__free_page(page + i);
		cond_resched();
	}
	return 0;
}

static struct ingot_mem *mem_begin(struct ingot_session *s, enum ingot_mem_kind kind, u64 size)
{
	struct ingot_mem *m = ingot_mem_new(s->dev, kind, size);
	unsigned long pages = size >> PAGE_SHIFT;
	int ret = -ENOMEM;

	if (!m)
		return ERR_PTR(ret);
	ret = charge(m, pages);
	if (ret)
		goto err_put;
	ret = -ENOMEM;
	m->pages = kvmalloc_array(pages, sizeof(*m->pages), GFP_KERNEL_ACCOUNT);
	if (!m->pages)
		goto err_put;
	return m;

err_put:
	ingot_mem_put(m);
	return ERR_PTR(ret);
}

int ingot_mem_alloc(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_mem_alloc *a = &args->mem_alloc;
	int ret, node = dev_to_node(&s->dev->pdev->dev);
	struct ingot_mem *m;

	if (a->flags & INGOT_MEM_NODE) {
		node = a->numa_node;
		if (node < 0 || node >= MAX_NUMNODES || !node_online(node))
			return -EINVAL;
	}
	if (!PAGE_ALIGNED(a->size))
		return -EINVAL;
	m = mem_begin(s, INGOT_MEM_ALLOCATED, a->size);
	if (IS_ERR(m))
		return PTR_ERR(m);
	ret = alloc_pages_for(m, a->size >> PAGE_SHIFT, a->flags, node);
	if (!ret)
		ret = mem_finish(s, m, a->flags & INGOT_MEM_CONTIG);
	a->handle = m->handle;
	a->num_segs = m->num_segs;
	a->mmap_offset = ingot_region_encode(m->handle);
	ingot_mem_put(m);
	return ret;
}

int ingot_mem_pin(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_mem_pin *a = &args->mem_pin;
	unsigned int gup = FOLL_LONGTERM | (a->flags & INGOT_PIN_READONLY ? 0 : FOLL_WRITE);
	unsigned long pages = a->size >> PAGE_SHIFT;
	struct ingot_mem *m;
	long n;
	int ret = 0;

	if (!PAGE_ALIGNED(a->va | a->size) || a->va + a->size > TASK_SIZE)
		return a->va + a->size > TASK_SIZE ? -EFAULT : -EINVAL;
	m = mem_begin(s, INGOT_MEM_PINNED, a->size);
	if (IS_ERR(m))
		return PTR_ERR(m);
	m->readonly = a->flags & INGOT_PIN_READONLY;
	while (!ret && m->num_pages < pages) {
		n = pin_user_pages_fast(a->va + (m->num_pages << PAGE_SHIFT),
					min(BATCH, pages - m->num_pages), gup,
					m->pages + m->num_pages);
		if (n > 0)
			m->num_pages += n;
		else
			ret = n ? n : -EFAULT;
		if (fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	if (!ret)
		ret = mem_finish(s, m, false);
	a->handle = m->handle;
	a->num_segs = m->num_segs;
	ingot_mem_put(m);
	return ret;
}

/* Segments do not change, so they are copied out without a lock. */
int ingot_mem_segs(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_mem_segs *a = &args->mem_segs;
	struct ingot_mem *m;
	int ret;

	ret = ingot_enter(s, INGOT_NEEDS_DEVICE);
	if (ret)
		return ret;
	m = ingot_mem_get(s, a->handle);
	ingot_leave(s);
	if (!m)
		return -ENOENT;
	if (READ_ONCE(m->dead)) {
		ret = m->kind == INGOT_MEM_FOREIGN ? -EOWNERDEAD : -ENOENT;
		goto out;
	}
	a->total = m->num_segs;
	a->count = a->first < m->num_segs ? min(a->count, m->num_segs - a->first) : 0;
	if (copy_to_user(u64_to_user_ptr(a->segs), m->segs + a->first,
			 a->count * sizeof(*m->segs)))
		ret = -EFAULT;
out:
	ingot_mem_put(m);
	return ret;
}

int ingot_mem_free(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_mem_free *a = &args->mem_free;
	struct ingot_dev *d = s->dev;
	struct ingot_mem *m;
	bool foreign;
	int ret;

	ret = ingot_enter(s, INGOT_NEEDS_DEVICE);
	if (ret)
		return ret;
	m = ingot_mem_get(s, a->handle);
	if (!m) {
		ret = -ENOENT;
		goto out;
	}
	/* Foreign memory dies by its exporter, and still needs to be freed by its owner. */
	foreign = m->kind == INGOT_MEM_FOREIGN;
	down_write(&d->map_lock);
	if (atomic_read(&m->users))
		ret = -EBUSY;
	else if (m->dead && !foreign)
		ret = -ENOENT;
	else
		m->dead = true;
	up_write(&d->map_lock);
	/* Of two that free the same handle, one erases it. */
	if (!ret && xa_cmpxchg(&s->mems, a->handle, m, NULL, 0) != m)
		ret = -ENOENT;
	if (!ret) {
		dev_unmap(m);
		ingot_iotlb_flush(d);
		ingot_mem_put(m);	/* the handle's */
	}
out:
	ingot_leave(s);
	if (m)
		ingot_mem_put(m);
	return ret;
}

/* map_lock is held for writing: no page of it is mapped from here on. */
void ingot_mem_kill_all(struct ingot_session *s)
{
	struct ingot_mem *m;
	unsigned long i;

	xa_for_each(&s->mems, i, m)
		m->dead = true;
}

/*
 * The device has been stopped. If it could not be (@poison), and nothing is in its way, the
 * memory is never given back.
 */
void ingot_mem_unmap_all(struct ingot_session *s, bool poison)
{
	struct ingot_mem *m;
	unsigned long i;

	xa_for_each(&s->mems, i, m)
		if (poison)
			kref_get(&m->ref);
		else
			dev_unmap(m);
	ingot_iotlb_flush(s->dev);
}

/* What was killed; nobody's lock is held, since pages may take their time. */
void ingot_mem_drop_all(struct ingot_session *s)
{
	struct ingot_mem *m;
	unsigned long i;

	xa_for_each(&s->mems, i, m) {
		/* What is in the table is alive, but only for as long as it cannot be freed. */
		xa_lock(&s->mems);
		if (xa_load(&s->mems, i) == m && m->dead)
			__xa_erase(&s->mems, i);
		else
			m = NULL;
		xa_unlock(&s->mems);
		if (m)
			ingot_mem_put(m);
	}
}
