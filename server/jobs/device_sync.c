// device_sync.c - see device_sync.h.
#include "device_sync.h"

int device_sync(const struct ops *ops, struct dev *dev, struct err *e)
{
    char why[256], again[256];
    if (ops->sync(dev, why, sizeof why) == 0)
        return 0;
    const bool lost = ops->sync(dev, again, sizeof again) != 0;
    return err_set(e, lost ? ERR_DEVICE : ERR_UNSUPPORTED, "%s", why);
}
