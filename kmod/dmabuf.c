// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of one device for another one, as dma-bufs that can be taken back. What is given away
 * is a range of a BAR or of allocated memory; an importer must be dynamic, that is, stop when
 * it is told. What is taken in may die at any moment: then bus mastering goes off before the
 * memory does. A peer mapping is both in one call, without the file descriptor.
 *
 * The exporter tells its importers with its own dev->lock held. So what an importer does then
 * takes no dev->lock, or two devices that map each other would wait for each other: it holds
 * the buffer's dma_resv, which protects @mapped and @foreign_sgt of foreign memory.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/file.h>

#include "compat.h"
#include "kmod.h"

#define BAR_PIECE SZ_1G	/* a scatterlist counts bytes in 32 bits */

struct ingot_export {
	struct list_head node;		/* dev->exports, exports_lock */
	struct ingot_dev *dev;
	struct dma_buf *buf;
	struct ingot_mem *mem;		/* NULL for a range of a BAR */
	phys_addr_t bar_start;
	u64 offset, length;
	unsigned int maps;		/* dma_resv, like revoked */
	bool revoked;
};

static int export_attach(struct dma_buf *buf, struct dma_buf_attachment *attach)
{
	struct ingot_export *e = buf->priv;

	if (!attach->importer_ops || !attach->peer2peer)
		return -EOPNOTSUPP;
	return ingot_may_reach(e->dev->pdev, attach->dev);
}

/*
 * Nothing of ours moves, so there is nothing to do. Without CONFIG_DMABUF_MOVE_NOTIFY the core
 * pins whatever is mapped, so this cannot be refused either; who holds on to a mapping after it
 * was revoked keeps the device from being opened again.
 */
static int export_pin(struct dma_buf_attachment *attach)
{
	return 0;
}

static void export_unpin(struct dma_buf_attachment *attach)
{
}

static void unmap_bar_sgt(struct device *dev, struct sg_table *sgt, unsigned int nents,
			  enum dma_data_direction dir)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sg(sgt->sgl, sg, nents, i)
		dma_unmap_resource(dev, sg_dma_address(sg), sg_dma_len(sg), dir, 0);
}

/* There are no pages behind a BAR: only the DMA half of the table is filled in. */
static int map_bar_sgt(struct ingot_export *e, struct device *dev, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
	phys_addr_t phys = e->bar_start + e->offset;
	u64 left = e->length, piece;
	struct scatterlist *sg;
	dma_addr_t dma;
	int i, ret;

	ret = sg_alloc_table(sgt, DIV_ROUND_UP_ULL(left, BAR_PIECE), GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(sgt, sg, i) {
		piece = min_t(u64, left, BAR_PIECE);
		dma = dma_map_resource(dev, phys, piece, dir, 0);
		if (dma_mapping_error(dev, dma)) {
			unmap_bar_sgt(dev, sgt, i, dir);
			sg_free_table(sgt);
			return -EIO;
		}
		sg_set_page(sg, NULL, piece, 0);
		sg_dma_address(sg) = dma;
		sg_dma_len(sg) = piece;
		phys += piece;
		left -= piece;
	}
	return 0;
}

static int map_pages_sgt(struct ingot_export *e, struct device *dev, struct sg_table *sgt,
			 enum dma_data_direction dir)
{
	int ret;

	ret = sg_alloc_table_from_pages(sgt, e->mem->pages + (e->offset >> PAGE_SHIFT),
					e->length >> PAGE_SHIFT, 0, e->length, GFP_KERNEL);
	if (ret)
		return ret;
	ret = ingot_map_sgtable(e->dev, dev, sgt, dir);
	if (ret)
		sg_free_table(sgt);
	return ret;
}

static struct sg_table *export_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	struct ingot_export *e = attach->dmabuf->priv;
	struct sg_table *sgt;
	int ret;

	dma_resv_assert_held(attach->dmabuf->resv);
	if (e->revoked)
		return ERR_PTR(-ENODEV);
	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = e->mem ? map_pages_sgt(e, attach->dev, sgt, dir) :
		       map_bar_sgt(e, attach->dev, sgt, dir);
	if (ret) {
		kfree(sgt);
		return ERR_PTR(ret);
	}
	e->maps++;
	return sgt;
}

static void export_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
			 enum dma_data_direction dir)
{
	struct ingot_export *e = attach->dmabuf->priv;

	if (e->mem)
		dma_unmap_sgtable(attach->dev, sgt, dir, 0);
	else
		unmap_bar_sgt(attach->dev, sgt, sgt->nents, dir);
	sg_free_table(sgt);
	kfree(sgt);
	e->maps--;
	if (e->revoked && !e->mem)
		atomic_dec(&e->dev->stale_maps);
}

/* Of the last reference. A revoke that runs now still finds the buffer: it holds the lock. */
static void export_release(struct dma_buf *buf)
{
	struct ingot_export *e = buf->priv;

	mutex_lock(&e->dev->exports_lock);
	list_del(&e->node);
	mutex_unlock(&e->dev->exports_lock);
	if (e->mem) {
		atomic_dec(&e->mem->users);
		ingot_mem_put(e->mem);
	}
	put_device(&e->dev->dev);
	kfree(e);
}

static const struct dma_buf_ops export_ops = {
	.attach = export_attach,
	.pin = export_pin,
	.unpin = export_unpin,
	.map_dma_buf = export_map,
	.unmap_dma_buf = export_unmap,
	.release = export_release,
};

/* dev->lock is held; one reference to @m becomes the export's, on success only. */
static struct dma_buf *make_export(struct ingot_dev *d, struct ingot_mem *m, u32 bar, u64 offset,
				   u64 length)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct ingot_export *e;
	struct dma_buf *buf;

	e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return ERR_PTR(-ENOMEM);
	e->dev = d;
	e->mem = m;
	e->bar_start = m ? 0 : d->bars[bar].start;
	e->offset = offset;
	e->length = length;

	info.ops = &export_ops;
	info.size = length;
	info.flags = O_RDWR;
	info.priv = e;
	buf = dma_buf_export(&info);
	if (IS_ERR(buf)) {
		kfree(e);
		return buf;
	}
	e->buf = buf;
	get_device(&d->dev);
	if (m)
		atomic_inc(&m->users);
	mutex_lock(&d->exports_lock);
	list_add(&e->node, &d->exports);
	mutex_unlock(&d->exports_lock);
	return buf;
}

static struct dma_buf *export_bar(struct ingot_dev *d, u32 bar, u64 offset, u64 length)
{
	const struct ingot_bar_info *b = &d->bars[bar];

	if (!(b->flags & INGOT_BAR_MMAP) || !ingot_pages_ok(offset, length, b->len) ||
	    !PAGE_ALIGNED(offset | length))
		return ERR_PTR(-EINVAL);
	return make_export(d, NULL, bar, offset, length);
}

static struct dma_buf *export_mem(struct ingot_session *s, u32 handle, u64 offset, u64 length)
{
	struct ingot_mem *m = ingot_mem_get(s, handle);
	struct dma_buf *buf;
	int ret;

	if (!m)
		return ERR_PTR(-ENOENT);
	/* A user now keeps INGOT_MEM_FREE away; make_export() adds its own. */
	down_read(&s->dev->map_lock);
	ret = m->dead ? -ENOENT : 0;
	atomic_inc(&m->users);
	up_read(&s->dev->map_lock);
	if (!ret && m->kind != INGOT_MEM_ALLOCATED)
		ret = -EOPNOTSUPP;
	if (!ret && (!ingot_pages_ok(offset, length, m->size) || !PAGE_ALIGNED(offset | length)))
		ret = -EINVAL;
	buf = ret ? ERR_PTR(ret) : make_export(s->dev, m, 0, offset, length);
	atomic_dec(&m->users);
	if (IS_ERR(buf))
		ingot_mem_put(m);
	return buf;
}

int ingot_mem_export(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_mem_export *a = &args->mem_export;
	struct dma_buf *buf;

	buf = a->flags & INGOT_EXPORT_BAR ?
	      export_bar(s->dev, a->source, a->offset, a->length) :
	      export_mem(s, a->source, a->offset, a->length);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	a->fd = dma_buf_fd(buf, O_CLOEXEC);
	if (a->fd < 0)
		dma_buf_put(buf);
	return min(a->fd, 0);
}

/*
 * The device is stopped and dev->lock is held for writing. Nobody can map any of them again. An
 * importer that does not let go of system memory keeps only the pages; one that does not let go
 * of a BAR could reach the next owner's, so there is none until it does.
 */
void ingot_exports_revoke(struct ingot_dev *d)
{
	struct ingot_export *e;

	mutex_lock(&d->exports_lock);
	list_for_each_entry(e, &d->exports, node) {
		dma_resv_lock(e->buf->resv, NULL);
		if (!e->revoked) {
			dma_buf_move_notify(e->buf);
			e->revoked = true;
			if (!e->mem)
				atomic_add(e->maps, &d->stale_maps);
		}
		dma_resv_unlock(e->buf->resv);
	}
	mutex_unlock(&d->exports_lock);
}

/* dma_resv is held. */
static void unmap_locked(struct ingot_mem *m)
{
	if (!m->mapped)
		return;
	dma_buf_unmap_attachment(m->attach, m->foreign_sgt, DMA_BIDIRECTIONAL);
	ingot_iotlb_flush(m->dev);
	m->mapped = false;
}

/*
 * The exporter takes its memory back. We still are attached, so our device still is there: the
 * session detaches, waiting for dma_resv, before the device can go.
 */
static void import_move_notify(struct dma_buf_attachment *attach)
{
	struct ingot_mem *m = attach->importer_priv;

	if (!m->mapped)
		return;
	ingot_stop(m->dev);
	WRITE_ONCE(m->dead, true);
	unmap_locked(m);
	ingot_event(m->dev, INGOT_EVENT_PEER_GONE);
}

static const struct dma_buf_attach_ops import_ops = {
	.allow_peer2peer = true,
	.move_notify = import_move_notify,
};

/* dev->lock is held. */
void ingot_foreign_unmap(struct ingot_mem *m)
{
	struct dma_buf_attachment *attach = m->attach;
	struct dma_buf *buf;

	if (!attach)
		return;
	buf = attach->dmabuf;
	dma_resv_lock(buf->resv, NULL);
	unmap_locked(m);
	dma_resv_unlock(buf->resv);
	m->attach = NULL;
	dma_buf_detach(buf, attach);
	dma_buf_put(buf);
}

static int attach_and_map(struct ingot_mem *m, struct dma_buf *buf)
{
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	int ret = 0;

	attach = dma_buf_dynamic_attach(buf, &m->dev->pdev->dev, &import_ops, m);
	if (IS_ERR(attach))
		return PTR_ERR(attach);
	get_dma_buf(buf);
	m->attach = attach;
	dma_resv_lock(buf->resv, NULL);
	sgt = dma_buf_map_attachment(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		ret = PTR_ERR(sgt);
	} else {
		m->foreign_sgt = sgt;
		m->mapped = true;
		ret = ingot_mem_take_segs(m, sgt);
	}
	dma_resv_unlock(buf->resv);
	return ret;
}

/* dev->lock is held; the caller gets a reference. */
static struct ingot_mem *import(struct ingot_session *s, struct dma_buf *buf)
{
	struct ingot_mem *m = ingot_mem_new(s->dev, INGOT_MEM_FOREIGN, buf->size);
	int ret;

	if (!m)
		return ERR_PTR(-ENOMEM);
	ret = attach_and_map(m, buf);
	if (!ret)
		ret = ingot_mem_publish(s, m);
	if (!ret)
		return m;
	ingot_foreign_unmap(m);
	ingot_mem_put(m);
	return ERR_PTR(ret);
}

int ingot_mem_import(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_mem_import *a = &args->mem_import;
	struct dma_buf *buf = dma_buf_get(a->fd);
	struct ingot_mem *m;

	if (IS_ERR(buf))
		return PTR_ERR(buf) == -EINVAL ? -EBADF : PTR_ERR(buf);
	m = import(s, buf);
	dma_buf_put(buf);
	if (IS_ERR(m))
		return PTR_ERR(m);
	a->handle = m->handle;
	a->num_segs = m->num_segs;
	a->size = m->size;
	ingot_mem_put(m);
	return 0;
}

static int may_pair(struct ingot_session *s, struct ingot_session *peer)
{
	if (peer->dev == s->dev)
		return -EINVAL;
	if (!uid_eq(peer->cred->euid, s->cred->euid) && !capable(CAP_SYS_RAWIO))
		return -EPERM;
	return ingot_may_reach(peer->dev->pdev, &s->dev->pdev->dev);
}

/* Never both devices' locks at a time: first theirs, to export, then ours, to import. */
int ingot_peer_map(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_peer_map *a = &args->peer_map;
	struct ingot_mem *m = ERR_PTR(-EBADF);
	struct file *file = fget(a->fd);
	struct ingot_session *peer;
	struct dma_buf *buf;
	int ret = -EBADF;

	if (!file)
		return ret;
	peer = ingot_session_of(file);
	if (peer)
		ret = may_pair(s, peer);
	if (!ret)
		ret = ingot_enter(peer, INGOT_NEEDS_WORKING);
	if (ret)
		goto out;
	buf = export_bar(peer->dev, a->bar, a->offset, a->length);
	ingot_leave(peer);
	ret = PTR_ERR_OR_ZERO(buf);
	if (ret)
		goto out;
	ret = ingot_enter(s, INGOT_NEEDS_WORKING);
	if (!ret) {
		m = import(s, buf);
		ingot_leave(s);
		ret = PTR_ERR_OR_ZERO(m);
	}
	dma_buf_put(buf);		/* the attachment has its own */
	if (!ret) {
		a->handle = m->handle;
		ingot_mem_put(m);
	}
out:
	fput(file);
	return ret;
}
