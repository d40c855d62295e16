/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The memory map of mps2-an521: that of its family. */
#include "device/boards/mps2/map.h"
