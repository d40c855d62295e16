/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Service ids and static handles of the secure services; what their manifests say, as C. */
#ifndef SP_DEVICE_SECURE_PSA_MANIFEST_SID_H
#define SP_DEVICE_SECURE_PSA_MANIFEST_SID_H

#define SP_SERVICE_HANDLE(index) ((psa_handle_t)(0x40000100 + (index)))

#define TFM_CRYPTO_SID                              0x00000080U
#define TFM_CRYPTO_HANDLE                           SP_SERVICE_HANDLE(1)
#define TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_SID    0x00000070U
#define TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE SP_SERVICE_HANDLE(3)
#define TFM_ATTESTATION_SERVICE_SID                 0x00000020U
#define TFM_ATTESTATION_SERVICE_HANDLE              SP_SERVICE_HANDLE(4)
#define SP_SENSOR_SERVICE_SID                       0x5A110010U
#define SP_SENSOR_SERVICE_HANDLE                    SP_SERVICE_HANDLE(8)
#define SP_APPKEYS_SERVICE_SID                      0x5A110011U
#define SP_APPKEYS_SERVICE_HANDLE                   SP_SERVICE_HANDLE(9)

#endif
