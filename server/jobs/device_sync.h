// device_sync.h - wait for the device in a task that tries something. Engine thread.
#ifndef DEVICE_SYNC_H
#define DEVICE_SYNC_H

#include "err.h"
#include "ops.h"

// 0 when all that was enqueued is done. ERR_UNSUPPORTED when an operation refused its arguments or has no
// scratch for them: the device goes on. ERR_DEVICE, which ends the server, only when a second wait
// fails too: a lost device stays lost, a refusal is told once.
int device_sync(const struct ops *ops, struct dev *dev, struct err *e) MUST_USE;

// The same after a wait that failed and said why. Never 0.
int device_failure(const struct ops *ops, struct dev *dev, const char *why, struct err *e) MUST_USE;

#endif
