/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What stands before the non-secure image, written by ns.ld: how much of it there is to measure. */
#ifndef SP_DEVICE_BOARDS_NS_HEADER_H
#define SP_DEVICE_BOARDS_NS_HEADER_H

#include <stdint.h>

struct sp_ns_header {
    uint32_t magic;   /**< MAP_NS_HEADER_MAGIC */
    uint32_t size;    /**< bytes, from this header to the end of what is loaded */
    uint32_t vectors; /**< address of the vector table: MAP_NS_VECTORS */
};

#endif
