/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel interfaces that changed between 5.15 and now, under one name each. What the kernel at
 * hand has is found out by compiling the snippets of features.def, never by its version:
 * distributions backport. A kernel that lost the old form and has the new one only needs a row
 * there and a branch here.
 */
#ifndef INGOT_COMPAT_H
#define INGOT_COMPAT_H

#include <linux/eventfd.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/mm.h>
#include <linux/msi.h>

#include "features.h"

static inline void ingot_signal(struct eventfd_ctx *ctx)
{
#ifdef HAVE_EVENTFD_SIGNAL_ONE
	eventfd_signal(ctx);
#else
	eventfd_signal(ctx, 1);
#endif
}

static inline void ingot_vm_flags(struct vm_area_struct *vma, unsigned long set,
				  unsigned long clear)
{
#ifdef HAVE_VM_FLAGS_SET
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

static inline bool ingot_has_isolated_msi(struct device *dev)
{
#if defined(HAVE_ISOLATED_MSI)
	return msi_device_has_isolated_msi(dev);
#elif defined(HAVE_DEVICE_IOMMU_CAPABLE)
	return irq_domain_check_msi_remap() || device_iommu_capable(dev, IOMMU_CAP_INTR_REMAP);
#else
	return irq_domain_check_msi_remap() || iommu_capable(dev->bus, IOMMU_CAP_INTR_REMAP);
#endif
}

#ifdef HAVE_IMPORT_NS_BARE
#define INGOT_IMPORT_NS(ns) MODULE_IMPORT_NS(ns)
#else
#define INGOT_IMPORT_NS(ns) MODULE_IMPORT_NS(#ns)
#endif

#endif
