/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Partition ids: who a secure caller is. Storage and messages are tagged with them. */
#ifndef SP_DEVICE_SECURE_PSA_MANIFEST_PID_H
#define SP_DEVICE_SECURE_PSA_MANIFEST_PID_H

#define SP_CLIENT_NON_SECURE (-1)
#define SP_PARTITION_CRYPTO  257
#define SP_PARTITION_ITS     258
#define SP_PARTITION_ATTEST  259
#define SP_PARTITION_SENSOR  260
#define SP_PARTITION_APPKEYS 261

#endif
