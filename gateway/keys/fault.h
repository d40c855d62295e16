/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A sentence for the operator that goes with an error code: what is wrong and what to do about it. */
#ifndef SP_GATEWAY_KEYS_FAULT_H
#define SP_GATEWAY_KEYS_FAULT_H

struct sp_fault {
    char text[320]; /**< one line without a full stop; "" when nothing went wrong */
};

/** Write the sentence; too long a one is cut. Arguments never hold secrets or unchecked outside bytes. */
__attribute__((format(printf, 2, 3))) void sp_fault_set(struct sp_fault *fault, const char *format,
                                                        ...);

#endif
