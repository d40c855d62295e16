/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Frames on a serial line: whatever happens to bytes, the receiver is back in step at the next frame.
 *
 * A frame is: type (1), epoch (4), sequence (2), payload (0..240), CRC-32 of all that (4); numbers big-endian; the CRC
 * is that of IEEE 802.3. The whole is byte-stuffed with COBS, so that it holds no zero, and stands between two zeros.
 * Anything that is not such a frame is ignored.
 */
#ifndef SP_DEVICE_PORT_LINK_FRAME_H
#define SP_DEVICE_PORT_LINK_FRAME_H

#include "libs/base/bytes.h"

#define SP_FRAME_PAYLOAD_MAX 240U
#define SP_FRAME_BODY_MAX    (7U + SP_FRAME_PAYLOAD_MAX + 4U)
#define SP_FRAME_WIRE_MAX    (SP_FRAME_BODY_MAX + 3U) /**< on the line: stuffing byte, two zeros */

enum sp_frame_type {
    SP_FRAME_OPEN =
        1, /**< device: begin a connection; payload: SP_FRAME_VERSION. Repeated until answered */
    SP_FRAME_OPENED = 2, /**< host: it stands */
    SP_FRAME_DATA =
        3, /**< either: bytes of the stream; the sequence counts from 0 for each direction */
    SP_FRAME_CLOSE = 4, /**< either: the connection of that epoch is gone, or was never there */
};

#define SP_FRAME_VERSION 1U

struct sp_frame {
    uint8_t type;
    uint32_t epoch;    /**< the connection, chosen at random by the device, not 0 */
    uint16_t sequence; /**< DATA only, else 0; wraps */
    struct sp_view payload;
};

/** @retval SP_ERR_SPACE Too little room. @retval SP_ERR_ARGUMENT Too long a payload. */
SP_MUST_CHECK enum sp_err sp_frame_encode(const struct sp_frame *frame, struct sp_writer *w);

/** Caller's storage; all zero is a fresh one. */
struct sp_frame_decoder {
    size_t used;
    bool overflow; /* more than a frame since the last zero */
    uint8_t bytes[SP_FRAME_WIRE_MAX];
};

/**
 * Take the next byte of the line.
 * @param[out] out A frame, when it returns true; its payload is borrowed until the next call.
 */
bool sp_frame_decode(struct sp_frame_decoder *decoder, uint8_t byte, struct sp_frame *out);

#endif
