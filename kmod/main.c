// SPDX-License-Identifier: GPL-2.0
/*
 * The driver's life with a device: bound on request only, never by a table. The device is set
 * up once, here, with bus mastering off; what it looks like then is what it is restored to
 * after every session.
 */
#include <linux/idr.h>
#include <linux/module.h>

#include "compat.h"
#include "kmod.h"

#define MAX_DEVICES 64

bool ingot_allow_unsafe_dma;
module_param_named(allow_unsafe_dma, ingot_allow_unsafe_dma, bool, 0644);
MODULE_PARM_DESC(allow_unsafe_dma,
		 "let CAP_SYS_RAWIO open devices that no IOMMU isolates; taints the kernel");

unsigned int ingot_irq_burst = 20000;
module_param_named(irq_burst, ingot_irq_burst, uint, 0644);
MODULE_PARM_DESC(irq_burst, "interrupts of one vector in 10 ms before it is stopped; 0: no limit");

static bool force_console;
module_param(force_console, bool, 0644);
MODULE_PARM_DESC(force_console, "bind to the device that shows the console as well");

static unsigned int dma_bits;
module_param(dma_bits, uint, 0644);
MODULE_PARM_DESC(dma_bits, "width of DMA addresses; 0: by the table of the module");

static char *ids;
module_param(ids, charp, 0444);
MODULE_PARM_DESC(ids, "vendor:device[,...] in hexadecimal to bind to; none by default");

/* Who owns what, of all devices: opening one looks at the others of its isolation group. */
DEFINE_MUTEX(ingot_group_mutex);
static LIST_HEAD(devices);
static DEFINE_IDA(minors);
static dev_t first_devt;

struct class ingot_class = {
	.name = "ingot",
};

/* group_mutex is held. */
struct ingot_dev *ingot_find(struct pci_dev *pdev)
{
	struct ingot_dev *d;

	list_for_each_entry(d, &devices, node)
		if (d->pdev == pdev)
			return d;
	return NULL;
}

static void dev_release(struct device *dev)
{
	struct ingot_dev *d = container_of(dev, struct ingot_dev, dev);

	kfree(d->saved);
	kfree(d->vectors);
	pci_dev_put(d->pdev);
	ida_free(&minors, d->id);
	kfree(d);
}

static struct ingot_dev *dev_new(struct pci_dev *pdev)
{
	struct ingot_dev *d = kzalloc(sizeof(*d), GFP_KERNEL);
	int ret;

	if (!d)
		return ERR_PTR(-ENOMEM);
	d->id = ida_alloc_max(&minors, MAX_DEVICES - 1, GFP_KERNEL);
	if (d->id < 0) {
		ret = d->id;
		kfree(d);
		return ERR_PTR(ret);
	}
	device_initialize(&d->dev);
	d->dev.class = &ingot_class;
	d->dev.parent = &pdev->dev;
	d->dev.devt = first_devt + d->id;
	d->dev.groups = ingot_groups;
	d->dev.release = dev_release;
	dev_set_drvdata(&d->dev, d);
	d->pdev = pci_dev_get(pdev);
	d->blocked = true;
	init_rwsem(&d->lock);
	init_rwsem(&d->map_lock);
	mutex_init(&d->cfg_lock);
	mutex_init(&d->exports_lock);
	INIT_LIST_HEAD(&d->exports);
	spin_lock_init(&d->event_lock);
	init_waitqueue_head(&d->event_wait);
	ret = dev_set_name(&d->dev, "ingot%d", d->id);
	if (ret) {
		put_device(&d->dev);
		return ERR_PTR(ret);
	}
	return d;
}

static int set_up_dma(struct ingot_dev *d)
{
	int ret;

	d->dma_bits = dma_bits ? clamp(dma_bits, 24U, 64U) : ingot_dma_bits(d->pdev);
	ret = dma_set_mask_and_coherent(&d->pdev->dev, DMA_BIT_MASK(d->dma_bits));
	if (ret)
		return ret;
	dma_set_max_seg_size(&d->pdev->dev, UINT_MAX);
	d->dma_mode = ingot_dma_mode(d);
	d->numa = dev_to_node(&d->pdev->dev);
	return 0;
}

static u64 find_caps(struct ingot_dev *d)
{
	u32 atomics = PCI_EXP_DEVCAP2_ATOMIC_COMP32 | PCI_EXP_DEVCAP2_ATOMIC_COMP64;
	struct pci_dev *pdev = d->pdev, *up = pci_upstream_bridge(pdev);
	u64 caps = INGOT_CAP_DMABUF;
	u16 acs = 0;

	if (!pcie_reset_flr(pdev, PCI_RESET_PROBE))
		caps |= INGOT_CAP_FLR;
	if (ingot_alone_on_bus(pdev))
		caps |= INGOT_CAP_BUS_RESET;
	if (pci_find_ext_capability(pdev, PCI_EXT_CAP_ID_REBAR))
		caps |= INGOT_CAP_REBAR;
	if (!pci_enable_atomic_ops_to_root(pdev, atomics))
		caps |= INGOT_CAP_ATOMICS;
	if (IS_ENABLED(CONFIG_PCI_P2PDMA))
		caps |= INGOT_CAP_P2P;
	if (ingot_msi_isolated(d))
		caps |= INGOT_CAP_MSI_ISOLATED;
	if (up && up->acs_cap)
		pci_read_config_word(up, up->acs_cap + PCI_ACS_CTRL, &acs);
	if (acs & (PCI_ACS_RR | PCI_ACS_CR))
		caps |= INGOT_CAP_ACS_REDIRECT;
	if (IS_ENABLED(CONFIG_INGOT_KMOD_DEBUG))
		caps |= INGOT_CAP_DEBUG;
	return caps;
}

static void put_dev(void *d)
{
	put_device(&((struct ingot_dev *)d)->dev);
}

/* Interrupts have been freed by then. */
static void release_pci(void *pdev)
{
	pci_free_irq_vectors(pdev);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
}

/* All that the driver core undoes by itself, in reverse order, after remove. */
static int set_up(struct ingot_dev *d)
{
	struct pci_dev *pdev = d->pdev;
	int ret, n;

	ret = devm_add_action_or_reset(&pdev->dev, put_dev, d);
	if (ret)
		return ret;
	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	pci_clear_master(pdev);
	ret = pci_request_regions(pdev, "ingot");
	if (ret) {
		pci_disable_device(pdev);
		return ret;
	}
	/*
	 * A device without MSI is polled; there is no INTx, which cannot be shared safely. The
	 * PCI core keeps its part of the vectors as a managed resource: ours must come later.
	 */
	n = pci_alloc_irq_vectors(pdev, 1, INGOT_MAX_IRQS, PCI_IRQ_MSIX | PCI_IRQ_MSI);
	ret = devm_add_action_or_reset(&pdev->dev, release_pci, pdev);
	if (ret)
		return ret;
	ret = set_up_dma(d);
	if (ret)
		return ret;
	ingot_bars_init(d);
	d->caps = find_caps(d);
	ret = ingot_irqs_init(d, max(n, 0));
	if (ret)
		return ret;
	pci_save_state(pdev);
	d->saved = pci_store_saved_state(pdev);
	return d->saved ? 0 : -ENOMEM;
}

static void list_dev(struct ingot_dev *d, bool on)
{
	mutex_lock(&ingot_group_mutex);
	if (on)
		list_add(&d->node, &devices);
	else
		list_del(&d->node);
	mutex_unlock(&ingot_group_mutex);
}

static int ingot_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct ingot_dev *d;
	int ret;

	ret = ingot_may_bind(pdev, force_console);
	if (ret)
		return ret;
	d = dev_new(pdev);
	if (IS_ERR(d))
		return PTR_ERR(d);
	ret = set_up(d);
	if (ret)
		return ret;
	pci_set_drvdata(pdev, d);
	cdev_init(&d->cdev, &ingot_fops);
	d->cdev.owner = THIS_MODULE;
	list_dev(d, true);
	ret = cdev_device_add(&d->cdev, &d->dev);
	if (ret) {
		list_dev(d, false);
		return ret;
	}
	ingot_debugfs_add(d);
	/* In D3cold it would forget its firmware; D3hot is all it may sleep in. */
	pci_d3cold_disable(pdev);
	pm_runtime_allow(&pdev->dev);
	pm_runtime_put(&pdev->dev);
	return 0;
}

/* Never waits for a file to be closed: it keeps what is left of the device until then. */
static void ingot_remove(struct pci_dev *pdev)
{
	struct ingot_dev *d = pci_get_drvdata(pdev);

	pm_runtime_get_sync(&pdev->dev);
	pm_runtime_forbid(&pdev->dev);
	pci_d3cold_enable(pdev);
	ingot_debugfs_del(d);
	cdev_device_del(&d->cdev, &d->dev);
	list_dev(d, false);

	down_write(&d->lock);
	if (d->session) {
		ingot_session_end(d, true);
		/* open took a reference that no end of the session will give back */
		pm_runtime_put_noidle(&pdev->dev);
	} else {
		ingot_stop(d);
	}
	d->state = INGOT_STATE_GONE;
	up_write(&d->lock);
	ingot_event(d, INGOT_EVENT_REMOVED);
}

/* Nothing: driver_override, new_id and ids= are how a device gets here. */
static const struct pci_device_id no_ids[] = { { } };

struct pci_driver ingot_pci_driver = {
	.name = "ingot",
	.id_table = no_ids,
	.probe = ingot_probe,
	.remove = ingot_remove,
	.err_handler = &ingot_error_handlers,
	.driver.pm = &ingot_pm_ops,
};

static int add_ids(void)
{
	unsigned int vendor, device;
	char *rest = ids, *id;
	int ret;

	while ((id = strsep(&rest, ","))) {
		if (!*id)
			continue;
		if (sscanf(id, "%x:%x", &vendor, &device) != 2) {
			pr_err("ingot: ids: \"%s\" is not vendor:device\n", id);
			return -EINVAL;
		}
		ret = pci_add_dynid(&ingot_pci_driver, vendor, device, PCI_ANY_ID, PCI_ANY_ID,
				    0, 0, 0);
		if (ret)
			return ret;
	}
	return 0;
}

static int __init ingot_init(void)
{
	int ret;

	ret = class_register(&ingot_class);
	if (ret)
		return ret;
	ret = alloc_chrdev_region(&first_devt, 0, MAX_DEVICES, "ingot");
	if (ret)
		goto err_class;
	ingot_debugfs_init();
	ret = pci_register_driver(&ingot_pci_driver);
	if (ret)
		goto err_chrdev;
	ret = add_ids();
	if (ret)
		goto err_driver;
	return 0;

err_driver:
	pci_unregister_driver(&ingot_pci_driver);
err_chrdev:
	ingot_debugfs_fini();
	unregister_chrdev_region(first_devt, MAX_DEVICES);
err_class:
	class_unregister(&ingot_class);
	return ret;
}
module_init(ingot_init);

static void __exit ingot_exit(void)
{
	pci_unregister_driver(&ingot_pci_driver);
	ingot_debugfs_fini();
	unregister_chrdev_region(first_devt, MAX_DEVICES);
	class_unregister(&ingot_class);
	ida_destroy(&minors);
}
module_exit(ingot_exit);

MODULE_DESCRIPTION("One PCI device in the hands of one process");
MODULE_AUTHOR("The ingot authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(__stringify(INGOT_ABI_MAJOR) "." __stringify(INGOT_ABI_MINOR));
INGOT_IMPORT_NS(DMA_BUF);
