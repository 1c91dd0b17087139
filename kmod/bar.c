// SPDX-License-Identifier: GPL-2.0
/*
 * BARs and everything else that a process maps. Mappings are filled by page faults, never when
 * they are made: a VMA is not yet in the file's tree while mmap() runs, and revoke would miss
 * it. To revoke is to set @blocked with map_lock held for writing and then to empty the tree;
 * a fault that comes later finds @blocked, one that came earlier is in the tree.
 */
#include <linux/io.h>

#include "compat.h"
#include "kmod.h"

void ingot_bars_init(struct ingot_dev *d)
{
	int i;

	for (i = 0; i < INGOT_NUM_BARS; i++) {
		unsigned long flags = pci_resource_flags(d->pdev, i);
		struct ingot_bar_info *b = &d->bars[i];

		if (flags & IORESOURCE_UNSET)
			continue;
		b->start = pci_resource_start(d->pdev, i);
		b->len = pci_resource_len(d->pdev, i);
		if (!b->len || (flags & IORESOURCE_IO))
			continue;
		b->flags = INGOT_BAR_MEM;
		if (flags & IORESOURCE_MEM_64)
			b->flags |= INGOT_BAR_64;
		if (PAGE_ALIGNED(b->start) && PAGE_ALIGNED(b->len))
			b->flags |= INGOT_BAR_MMAP;
		if (!(flags & IORESOURCE_PREFETCH))
			continue;
		b->flags |= INGOT_BAR_PREFETCH;
		if (b->flags & INGOT_BAR_MMAP)
			b->flags |= INGOT_BAR_WC;
	}
}

/*
 * On x86 a page inserted by a fault gets the memory type that is reserved for its address, and
 * without a reservation it is uncached whatever the VMA says. So the first mapping of a BAR
 * decides for all of it, until the session ends. map_lock is held for writing.
 */
static int decide_type(struct ingot_bar_info *b, bool wc)
{
	int ret;

	if (b->mapped)
		return b->wc == wc ? 0 : -EBUSY;
	if (wc) {
		ret = arch_io_reserve_memtype_wc(b->start, b->len);
		if (ret)
			return ret;
	}
	b->wc = wc;
	b->mapped = true;
	return 0;
}

/* All mappings are gone, and there will be no new one; map_lock is held for writing. */
void ingot_bars_forget(struct ingot_dev *d)
{
	struct ingot_bar_info *b;

	for (b = d->bars; b < d->bars + INGOT_NUM_BARS; b++) {
		if (b->mapped && b->wc)
			arch_io_free_memtype_wc(b->start, b->len);
		b->mapped = false;
	}
}

int ingot_get_bar(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_bar *a = &args->bar;
	struct ingot_dev *d = s->dev;
	const struct ingot_bar_info *b = &d->bars[a->index];

	if (!b->len)
		return -EINVAL;
	a->bar_flags = b->flags;
	a->size = b->len;
	a->off_uc = (u64)a->index << INGOT_MMAP_SHIFT;
	a->off_wc = b->flags & INGOT_BAR_WC ?
		    (u64)(a->index | INGOT_MMAP_WC) << INGOT_MMAP_SHIFT : 0;
	if (!(b->flags & INGOT_BAR_MMAP))
		a->off_uc = 0;
	return 0;
}

void ingot_revoke(struct ingot_dev *d, bool memory)
{
	down_write(&d->map_lock);
	d->blocked = true;
	if (memory && d->session)
		ingot_mem_kill_all(d->session);
	up_write(&d->map_lock);
	if (d->session)
		unmap_mapping_range(d->session->mapping, 0, 0, 1);
}

void ingot_unrevoke(struct ingot_dev *d)
{
	down_write(&d->map_lock);
	d->blocked = false;
	up_write(&d->map_lock);
}

/* What is mapped at @address, for as long as map_lock is held. */
typedef unsigned long (*pfn_at_t)(struct vm_area_struct *vma, u64 offset);

/*
 * Fill the 2 MiB around the fault: one fault for 512 pages. Only the page that was asked for
 * must succeed.
 */
static vm_fault_t fill(struct vm_fault *vmf, pfn_at_t pfn_at)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long address = vmf->address & PAGE_MASK;
	unsigned long start = max(vma->vm_start, address & PMD_MASK);
	unsigned long end = min(vma->vm_end - 1, address | ~PMD_MASK);
	u64 base = ((u64)vma->vm_pgoff << PAGE_SHIFT) & (INGOT_MMAP_SPAN - 1);
	unsigned long a;
	vm_fault_t ret;

	ret = vmf_insert_pfn(vma, address, pfn_at(vma, base + (address - vma->vm_start)));
	if (ret != VM_FAULT_NOPAGE)
		return ret;
	for (a = start; a < end; a += PAGE_SIZE)
		if (a != address &&
		    vmf_insert_pfn(vma, a, pfn_at(vma, base + (a - vma->vm_start))) !=
		    VM_FAULT_NOPAGE)
			break;
	return ret;
}

static unsigned long bar_pfn(struct vm_area_struct *vma, u64 offset)
{
	struct ingot_session *s = vma->vm_private_data;
	u64 index = ((u64)vma->vm_pgoff << PAGE_SHIFT) >> INGOT_MMAP_SHIFT;

	return (s->dev->bars[index & (INGOT_MMAP_WC - 1)].start + offset) >> PAGE_SHIFT;
}

static vm_fault_t bar_fault(struct vm_fault *vmf)
{
	struct ingot_session *s = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	down_read(&s->dev->map_lock);
	if (s->dev->session == s && !s->dev->blocked)
		ret = fill(vmf, bar_pfn);
	up_read(&s->dev->map_lock);
	return ret;
}

static const struct vm_operations_struct bar_vm_ops = {
	.fault = bar_fault,
};

static unsigned long mem_pfn(struct vm_area_struct *vma, u64 offset)
{
	struct ingot_mem *m = vma->vm_private_data;

	return page_to_pfn(m->pages[offset >> PAGE_SHIFT]);
}

static vm_fault_t mem_fault(struct vm_fault *vmf)
{
	struct ingot_mem *m = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	down_read(&m->dev->map_lock);
	if (!m->dead)
		ret = fill(vmf, mem_pfn);
	up_read(&m->dev->map_lock);
	return ret;
}

static void mem_vm_open(struct vm_area_struct *vma)
{
	struct ingot_mem *m = vma->vm_private_data;

	kref_get(&m->ref);
	atomic_inc(&m->users);
}

static void mem_vm_close(struct vm_area_struct *vma)
{
	struct ingot_mem *m = vma->vm_private_data;

	atomic_dec(&m->users);
	ingot_mem_put(m);
}

static const struct vm_operations_struct mem_vm_ops = {
	.open = mem_vm_open,
	.close = mem_vm_close,
	.fault = mem_fault,
};

static int map_memory(struct ingot_session *s, struct vm_area_struct *vma,
		      const struct ingot_region *r, u64 length)
{
	struct ingot_mem *m = ingot_mem_get(s, r->index);

	if (!m)
		return -EINVAL;
	if (m->dead || m->kind != INGOT_MEM_ALLOCATED ||
	    !ingot_pages_ok(r->offset, length, m->size)) {
		ingot_mem_put(m);
		return -EINVAL;
	}
	atomic_inc(&m->users);		/* the reference is the VMA's now */
	vma->vm_private_data = m;
	vma->vm_ops = &mem_vm_ops;
	return 0;
}

static int map_bar(struct ingot_session *s, struct vm_area_struct *vma,
		   const struct ingot_region *r, u64 length)
{
	struct ingot_bar_info *b = &s->dev->bars[r->index];
	u32 wanted = r->wc ? INGOT_BAR_WC : INGOT_BAR_MMAP;
	int ret;

	if (!(b->flags & wanted) || !ingot_pages_ok(r->offset, length, b->len))
		return -EINVAL;
	ret = decide_type(b, r->wc);
	if (ret)
		return ret;
	vma->vm_private_data = s;
	vma->vm_ops = &bar_vm_ops;
	vma->vm_page_prot = r->wc ? pgprot_writecombine(vma->vm_page_prot) :
				    pgprot_noncached(vma->vm_page_prot);
	return 0;
}

int ingot_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct ingot_session *s = file->private_data;
	u64 length = vma->vm_end - vma->vm_start;
	struct ingot_region r;
	int ret;

	if (!(vma->vm_flags & VM_SHARED) || (vma->vm_flags & VM_EXEC) ||
	    vma->vm_pgoff > (U64_MAX >> PAGE_SHIFT))
		return -EINVAL;
	ret = ingot_region_decode((u64)vma->vm_pgoff << PAGE_SHIFT, length, &r);
	if (ret)
		return ret;

	down_write(&s->dev->map_lock);
	if (s->dev->session != s || s->dev->state == INGOT_STATE_GONE)
		ret = -ENODEV;
	else if (r.memory)
		ret = map_memory(s, vma, &r, length);
	else
		ret = map_bar(s, vma, &r, length);
	up_write(&s->dev->map_lock);
	if (!ret)
		ingot_vm_flags(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY,
			       VM_MAYEXEC);
	return ret;
}
