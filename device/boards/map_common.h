/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The part of a memory map that is the same on every board; included at the end of each map.h. */
#ifndef SP_DEVICE_BOARDS_MAP_COMMON_H
#define SP_DEVICE_BOARDS_MAP_COMMON_H

/* The gate: 32 bytes (the SAU's granule) behind the secure vector table, room for four veneers of eight bytes. */
#define MAP_S_VECTORS_SIZE 0x00000040
#define MAP_NSC            (MAP_S_CODE + MAP_S_VECTORS_SIZE)
#define MAP_NSC_SIZE       0x00000020

#define MAP_S_STACK_SIZE  0x00001400
#define MAP_NS_STACK_SIZE 0x00001000 /* the one that exceptions use */

/* The non-secure image: struct sp_ns_header, then, aligned for any NVIC, the vector table. */
#define MAP_NS_HEADER_MAGIC 0x534E5053 /* "SPNS" */
#define MAP_NS_HEADER_SIZE  0x00000400
#define MAP_NS_VECTORS      (MAP_NS_CODE + MAP_NS_HEADER_SIZE)

#define MAP_NS_PERIPHERALS      0x40000000
#define MAP_NS_PERIPHERALS_SIZE 0x10000000
#define MAP_S_PERIPHERALS       0x50000000
#define MAP_S_PERIPHERALS_SIZE  0x10000000

#endif
