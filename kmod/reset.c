// SPDX-License-Identifier: GPL-2.0
/*
 * Stopping a device, in the one order that is safe. First nobody can touch its registers any
 * more (a mapping could switch bus mastering on again, directly or through a mirror of config
 * space), then it issues nothing new, then what it issued has arrived, then nobody hears of it,
 * then it is reset; and only then its memory is taken away.
 */
#include "compat.h"
#include "kmod.h"

/* The command register is shared with whoever takes memory away from us, see dmabuf.c. */
void ingot_master(struct ingot_dev *d, bool on)
{
	mutex_lock(&d->cfg_lock);
	if (on)
		pci_set_master(d->pdev);
	else
		pci_clear_master(d->pdev);
	mutex_unlock(&d->cfg_lock);
}

/* True when no request of the device is under way any more, nor can there be a new one. */
bool ingot_stop(struct ingot_dev *d)
{
	ingot_master(d, false);
	if (d->inject & INGOT_INJECT_PENDING)
		return false;
	/* One that is not there reads as ones: pending for ever, but silent. */
	return !pci_device_is_present(d->pdev) || pci_wait_for_pending_transaction(d->pdev);
}

/* Config space as it was at probe, with bus mastering off. */
void ingot_restore(struct ingot_dev *d)
{
	mutex_lock(&d->cfg_lock);
	pci_load_saved_state(d->pdev, d->saved);
	pci_restore_state(d->pdev);
	pci_clear_master(d->pdev);
	mutex_unlock(&d->cfg_lock);
}

/* Nobody touches it, it touches nobody, and nobody hears of it. Whether it obeyed is returned. */
static bool quiesce(struct ingot_dev *d, bool memory)
{
	bool stopped;

	ingot_revoke(d, memory);
	stopped = ingot_stop(d);
	ingot_irqs_detach(d);
	ingot_exports_revoke(d);
	return stopped;
}

bool ingot_alone_on_bus(struct pci_dev *pdev)
{
	struct pci_dev *other = NULL;
	bool alone = pdev->bus->self && !pci_is_root_bus(pdev->bus) && !pdev->subordinate &&
		     !(pdev->dev_flags & PCI_DEV_FLAGS_NO_BUS_RESET);

	for_each_pci_dev(other)
		alone &= other->bus != pdev->bus || other == pdev;
	return alone;
}

static bool method_exists(struct ingot_dev *d, u32 method)
{
	switch (method) {
	case INGOT_RESET_FLR:
		return d->caps & INGOT_CAP_FLR;
	case INGOT_RESET_BUS:
		return ingot_alone_on_bus(d->pdev);
	default:
		return d->pdev->reset_methods[0];
	}
}

/* The device has been quiesced; device_lock is held. */
static int reset_and_restore(struct ingot_dev *d, u32 method)
{
	int ret;

	d->needs_reset = true;
	if (d->inject & INGOT_INJECT_RESET)
		return -EIO;
	/* Resetting what is not there takes a minute. */
	if (!pci_device_is_present(d->pdev))
		return -ENODEV;
	pci_cfg_access_lock(d->pdev);
	switch (method) {
	case INGOT_RESET_FLR:
		ret = pcie_reset_flr(d->pdev, PCI_RESET_DO_RESET);
		break;
	case INGOT_RESET_BUS:
		pci_cfg_access_lock(d->pdev->bus->self);
		ret = pci_bridge_secondary_bus_reset(d->pdev->bus->self);
		pci_cfg_access_unlock(d->pdev->bus->self);
		break;
	default:
		ret = __pci_reset_function_locked(d->pdev);
		break;
	}
	if (!ret && !pci_device_is_present(d->pdev))
		ret = -EIO;
	if (!ret)
		ingot_restore(d);
	pci_cfg_access_unlock(d->pdev);
	d->generation++;
	if (!ret)
		d->needs_reset = false;
	return ret;
}

/* Memory that the device may still write to must stay what it is. */
static void take_memory(struct ingot_dev *d, bool stopped)
{
	bool poison = !stopped && !ingot_translated(d);

	if (poison)
		pci_err(d->pdev, "cannot be stopped, so its memory is never freed\n");
	d->poisoned |= poison;
	ingot_mem_unmap_all(d->session, poison);
}

/**
 * ingot_session_end() - the device goes back to nobody
 * @d: with device_lock and @d->lock held, and a session
 * @gone: the driver is being unbound: no reset, and the session lingers until it is closed
 *
 * The handles remain, dead, until ingot_mem_drop_all().
 */
void ingot_session_end(struct ingot_dev *d, bool gone)
{
	bool stopped;
	int ret = 0;

	if (d->inject & INGOT_INJECT_BAD_ORDER) {
		ingot_mem_unmap_all(d->session, false);
		ingot_revoke(d, true);
		ingot_mem_drop_all(d->session);
	}
	if (gone)			/* seen by whoever has map_lock after revoke */
		d->state = INGOT_STATE_GONE;
	stopped = quiesce(d, true);
	if (!gone)
		ret = reset_and_restore(d, INGOT_RESET_AUTO);
	/* A reset that worked has stopped what would not end, one that failed is no proof. */
	if (ret == -ENOTTY) {
		ingot_restore(d);
		ret = 0;
	} else if (!gone && ret != -ENODEV) {
		stopped = !ret;
	}
	take_memory(d, stopped);
	d->inject = 0;

	d->owned = false;
	down_write(&d->map_lock);
	if (!gone)
		d->session = NULL;
	ingot_bars_forget(d);
	up_write(&d->map_lock);
	if (gone)
		return;
	d->state = ret || d->poisoned ? INGOT_STATE_LOST : INGOT_STATE_FREE;
	ingot_event_detach(d);
	pm_runtime_put(&d->pdev->dev);
}

int ingot_reset(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_reset *a = &args->reset;
	bool keep = a->flags & INGOT_RESET_KEEP_MEM;
	struct ingot_dev *d = s->dev;
	bool stopped;
	int ret;

	ret = device_lock_interruptible(&d->pdev->dev);
	if (ret)
		return ret;
	down_write(&d->lock);
	ret = d->session == s ? ingot_state_check(INGOT_NEEDS_DEVICE, d->state) : -ENODEV;
	if (!ret && d->poisoned)
		ret = -EIO;
	if (!ret && !method_exists(d, a->method))
		ret = -ENOTTY;
	if (ret)
		goto out;

	stopped = quiesce(d, !keep);
	ret = reset_and_restore(d, a->method);
	if (!keep)
		take_memory(d, stopped || !ret);
	if (ret) {
		d->state = INGOT_STATE_LOST;
		ingot_event(d, INGOT_EVENT_ERROR);
	} else {
		d->state = INGOT_STATE_OWNED;
		ingot_unrevoke(d);
	}
	a->generation = d->generation;
out:
	up_write(&d->lock);
	device_unlock(&d->pdev->dev);
	ingot_mem_drop_all(s);
	return ret;
}

int ingot_cfg_op(struct ingot_session *s, union ingot_args *args)
{
	struct ingot_cfg_op *a = &args->cfg_op;
	struct ingot_dev *d = s->dev;
	int ret;

	down_write(&d->lock);
	ret = d->session == s ? ingot_state_check(INGOT_NEEDS_WORKING, d->state) : -ENODEV;
	if (ret)
		goto out;
	if (a->op != INGOT_CFG_MASTER && !pci_is_pcie(d->pdev)) {
		ret = -EOPNOTSUPP;
		goto out;
	}
	switch (a->op) {
	case INGOT_CFG_MASTER:
		if (a->arg)
			ingot_master(d, true);
		else if (!ingot_stop(d))
			ret = -ETIMEDOUT;
		break;
	case INGOT_CFG_ATOMICS:
		ret = pci_enable_atomic_ops_to_root(d->pdev, PCI_EXP_DEVCAP2_ATOMIC_COMP32 |
						    PCI_EXP_DEVCAP2_ATOMIC_COMP64);
		ret = ret ? -EOPNOTSUPP : 0;
		break;
	case INGOT_CFG_RELAXED:
		ret = pcie_capability_clear_and_set_word(d->pdev, PCI_EXP_DEVCTL,
							 PCI_EXP_DEVCTL_RELAX_EN, a->arg ?
							 PCI_EXP_DEVCTL_RELAX_EN : 0);
		ret = pcibios_err_to_errno(ret);
		break;
	case INGOT_CFG_READ_SIZE:
		ret = pcibios_err_to_errno(pcie_set_readrq(d->pdev, a->arg));
		break;
	}
out:
	up_write(&d->lock);
	return ret;
}

/* Somebody else resets it, with device_lock held from the first to the second of these. */
static void reset_prepare(struct pci_dev *pdev)
{
	struct ingot_dev *d = pci_get_drvdata(pdev);

	down_write(&d->lock);
	quiesce(d, false);
	if (d->state == INGOT_STATE_OWNED)
		d->state = INGOT_STATE_RESETTING;
	up_write(&d->lock);
}

static void reset_done(struct pci_dev *pdev)
{
	struct ingot_dev *d = pci_get_drvdata(pdev);

	down_write(&d->lock);
	ingot_restore(d);
	d->generation++;
	d->needs_reset = false;
	if (d->state == INGOT_STATE_RESETTING) {
		d->state = INGOT_STATE_OWNED;
		ingot_unrevoke(d);
	}
	up_write(&d->lock);
	ingot_event(d, INGOT_EVENT_ADMIN_RESET);
}

static pci_ers_result_t error_detected(struct pci_dev *pdev, pci_channel_state_t channel)
{
	struct ingot_dev *d = pci_get_drvdata(pdev);

	down_write(&d->lock);
	quiesce(d, false);
	d->state = INGOT_STATE_LOST;
	d->needs_reset = true;
	up_write(&d->lock);
	ingot_event(d, INGOT_EVENT_ERROR);
	return channel == pci_channel_io_perm_failure ? PCI_ERS_RESULT_DISCONNECT :
							PCI_ERS_RESULT_NEED_RESET;
}

/* The link is back; what the device knew is not. It stays lost until its owner resets it. */
static pci_ers_result_t slot_reset(struct pci_dev *pdev)
{
	struct ingot_dev *d = pci_get_drvdata(pdev);

	down_write(&d->lock);
	ingot_restore(d);
	d->generation++;
	up_write(&d->lock);
	return PCI_ERS_RESULT_RECOVERED;
}

const struct pci_error_handlers ingot_error_handlers = {
	.error_detected = error_detected,
	.slot_reset = slot_reset,
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

/*
 * A device that is owned holds state that nobody could restore, so the machine does not go to
 * sleep over it. A free one may go to D3hot; the PCI core does that.
 */
static int suspend(struct device *dev)
{
	struct ingot_dev *d = dev_get_drvdata(dev);

	return READ_ONCE(d->session) ? -EBUSY : 0;
}

const struct dev_pm_ops ingot_pm_ops = {
	.suspend = suspend,
	.freeze = suspend,
	.poweroff = suspend,
	.runtime_suspend = suspend,
};
