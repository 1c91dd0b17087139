// SPDX-License-Identifier: GPL-2.0
/*
 * Who may have which device: what the IOMMU does, whether interrupts can be forged, who shares
 * the isolation group, which device is the console. The rules are those of vfio where both have
 * one. Without a translating IOMMU a device is as powerful as the kernel, so its owner must be
 * allowed to be: capability, parameter, no lockdown, and a taint that says it happened.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/panic.h>
#include <linux/pci-p2pdma.h>
#include <linux/security.h>
#include <linux/vgaarb.h>

#include "compat.h"
#include "kmod.h"

/* Only while bound: the domain belongs to the device. */
enum ingot_dma_mode ingot_dma_mode(struct ingot_dev *d)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&d->pdev->dev);

	if (!domain)
		return INGOT_DMA_NONE;
	/* A bit of its own means translation by the DMA API; the lazy kind has one more. */
	if (!(domain->type & __IOMMU_DOMAIN_DMA_API))
		return INGOT_DMA_IDENTITY;
	return domain->type == IOMMU_DOMAIN_DMA ? INGOT_DMA_STRICT : INGOT_DMA_LAZY;
}

bool ingot_translated(struct ingot_dev *d)
{
	return ingot_dma_mode(d) >= INGOT_DMA_LAZY;
}

bool ingot_msi_isolated(struct ingot_dev *d)
{
	return iommu_get_domain_for_dev(&d->pdev->dev) && ingot_has_isolated_msi(&d->pdev->dev);
}

/*
 * After this the device cannot reach what dma_unmap took away. A lazy domain would forget only
 * some milliseconds later, when the pages belong to somebody else; this is also why the module
 * does not use dma_alloc_coherent(), which frees before we could ask.
 */
void ingot_iotlb_flush(struct ingot_dev *d)
{
	if (ingot_dma_mode(d) == INGOT_DMA_LAZY)
		iommu_flush_iotlb_all(iommu_get_domain_for_dev(&d->pdev->dev));
}

/* Another device in the group can be reached by ours, and reaches what ours reaches. */
static int neighbour_check(struct device *dev, void *data)
{
	struct ingot_dev *d = data, *other;
	struct pci_dev *pdev;

	if (dev == &d->pdev->dev)
		return 0;
	if (!dev_is_pci(dev))
		return -EBUSY;
	pdev = to_pci_dev(dev);
	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL || !dev->driver)
		return 0;
	other = ingot_find(pdev);
	if (!other)
		return -EBUSY;
	return other->owned && !uid_eq(other->owner, current_euid()) ? -EBUSY : 0;
}

/* group_mutex and dev->lock are held. */
int ingot_may_open(struct ingot_dev *d)
{
	struct iommu_group *group;
	int ret;

	if (ingot_translated(d) && ingot_msi_isolated(d)) {
		group = iommu_group_get(&d->pdev->dev);
		if (!group)
			return -EPERM;
		ret = iommu_group_for_each_dev(group, d, neighbour_check);
		iommu_group_put(group);
		return ret;
	}

	if (!ingot_allow_unsafe_dma || !capable(CAP_SYS_RAWIO))
		return -EPERM;
	ret = security_locked_down(LOCKDOWN_PCI_ACCESS);
	if (ret)
		return ret;
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
	dev_warn_ratelimited(&d->pdev->dev, "opened by %s[%d] without isolation: it can reach all memory\n",
			     current->comm, task_pid_nr(current));
	return 0;
}

int ingot_may_bind(struct pci_dev *pdev, bool force_console)
{
	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL)
		return -ENODEV;
	if (pdev->untrusted) {
		pci_err(pdev, "is an external device, whose memory the kernel bounces\n");
		return -EOPNOTSUPP;
	}
	if (!dev_is_dma_coherent(&pdev->dev)) {
		pci_err(pdev, "does not snoop the processor's caches\n");
		return -EOPNOTSUPP;
	}
	/* A firmware framebuffer that is in use makes pci_request_regions() fail as well. */
	if (!force_console && (pdev == vga_default_device() ||
			       (pdev->resource[PCI_ROM_RESOURCE].flags & IORESOURCE_ROM_SHADOW))) {
		pci_err(pdev, "is the console; force_console=1 takes it nevertheless\n");
		return -EBUSY;
	}
	return 0;
}

/* How many address bits a function has. The one thing here that depends on who made it. */
static const struct {
	u16 vendor;
	u8 base_class;
	u8 bits;
} address_bits[] = {
	{ PCI_VENDOR_ID_ATI,	PCI_BASE_CLASS_DISPLAY, 44 },
	{ PCI_VENDOR_ID_ATI,	0x12,			48 },	/* accelerators */
	{ PCI_VENDOR_ID_NVIDIA, PCI_BASE_CLASS_DISPLAY, 47 },
};

u32 ingot_dma_bits(struct pci_dev *pdev)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(address_bits); i++)
		if (pdev->vendor == address_bits[i].vendor &&
		    pdev->class >> 16 == address_bits[i].base_class)
			return address_bits[i].bits;
	return 64;
}

/*
 * Can @client issue requests to @owner's BARs? The kernel knows when it is built to (Debian's is
 * not); otherwise whoever is below the same host bridge may try, and a test that writes and
 * reads back is the user's to make.
 */
int ingot_may_reach(struct pci_dev *owner, struct device *client)
{
	struct pci_dev *pdev;

	if (!dev_is_pci(client))
		return -EXDEV;
	pdev = to_pci_dev(client);
	if (pdev == owner)
		return -EINVAL;
	if (IS_ENABLED(CONFIG_PCI_P2PDMA))
		return pci_p2pdma_distance_many(owner, &client, 1, true) < 0 ? -EXDEV : 0;
	return pci_domain_nr(pdev->bus) == pci_domain_nr(owner->bus) ? 0 : -EXDEV;
}
