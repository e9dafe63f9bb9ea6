// device_sync.c - see device_sync.h.
#include "device_sync.h"

int device_failure(const struct ops *ops, struct dev *dev, const char *why, struct err *e)
{
    char again[256];
    const bool lost = ops->sync(dev, again, sizeof again) != 0;
    return err_set(e, lost ? ERR_DEVICE : ERR_UNSUPPORTED, "%s", why);
}

int device_sync(const struct ops *ops, struct dev *dev, struct err *e)
{
    char why[256];
    return ops->sync(dev, why, sizeof why) ? device_failure(ops, dev, why, e) : 0;
}
