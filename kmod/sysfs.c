// SPDX-License-Identifier: GPL-2.0
/*
 * What can be seen of a device without opening it: in sysfs what udev and people decide by, in
 * debugfs what the owner's memory looks like (addresses: for root only).
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/sysfs.h>

#include "kmod.h"

static const char *const dma_modes[] = { "none", "identity", "lazy", "strict" };
static const char *const states[] = { "free", "owned", "resetting", "lost", "gone" };
static const char *const kinds[] = { "allocated", "pinned", "foreign" };

/* One attribute per line of text, printed with dev->lock held and the device there. */
#define ATTR(name, ...)									\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf)	\
{											\
	struct ingot_dev *d = dev_get_drvdata(dev);					\
	ssize_t n = -ENODEV;								\
											\
	down_read(&d->lock);								\
	if (d->state != INGOT_STATE_GONE)						\
		n = sysfs_emit(buf, __VA_ARGS__);					\
	up_read(&d->lock);								\
	return n;									\
}											\
static DEVICE_ATTR_RO(name)

ATTR(abi, "%d.%d\n", INGOT_ABI_MAJOR, INGOT_ABI_MINOR);
ATTR(state, "%s\n", states[d->state]);
ATTR(dma_mode, "%s\n", dma_modes[ingot_dma_mode(d)]);
ATTR(msi_isolated, "%d\n", ingot_msi_isolated(d));
ATTR(owner_pid, "%d\n", d->session ? pid_vnr(d->session->tgid) : 0);
ATTR(generation, "%llu\n", d->generation);
ATTR(needs_reset, "%d\n", d->needs_reset);
ATTR(bytes_pinned, "%llu\n", (u64)atomic64_read(&d->pinned_pages) << PAGE_SHIFT);

static struct attribute *attrs[] = {
	&dev_attr_abi.attr,
	&dev_attr_state.attr,
	&dev_attr_dma_mode.attr,
	&dev_attr_msi_isolated.attr,
	&dev_attr_owner_pid.attr,
	&dev_attr_generation.attr,
	&dev_attr_needs_reset.attr,
	&dev_attr_bytes_pinned.attr,
	NULL
};

static const struct attribute_group group = { .attrs = attrs };
const struct attribute_group *ingot_groups[] = { &group, NULL };

static struct dentry *root;

static int handles_show(struct seq_file *f, void *unused)
{
	struct ingot_dev *d = f->private;
	struct ingot_mem *m;
	unsigned long i;
	u32 k;

	down_read(&d->lock);
	if (!d->session)
		goto out;
	xa_lock(&d->session->mems);
	xa_for_each(&d->session->mems, i, m) {
		seq_printf(f, "%u %s %llu%s users %d\n", m->handle, kinds[m->kind], m->size,
			   m->dead ? " dead" : "", atomic_read(&m->users));
		for (k = 0; k < m->num_segs; k++)
			seq_printf(f, "  %llx %llx\n", m->segs[k].dma, m->segs[k].len);
	}
	xa_unlock(&d->session->mems);
out:
	up_read(&d->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(handles);

void ingot_debugfs_init(void)
{
	root = debugfs_create_dir("ingot", NULL);
}

void ingot_debugfs_fini(void)
{
	debugfs_remove_recursive(root);
}

void ingot_debugfs_add(struct ingot_dev *d)
{
	d->debug = debugfs_create_dir(dev_name(&d->dev), root);
	debugfs_create_file("handles", 0400, d->debug, d, &handles_fops);
}

void ingot_debugfs_del(struct ingot_dev *d)
{
	debugfs_remove_recursive(d->debug);
}
