/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/lwip/lan9118.h"

#define RX_DATA     0x00U
#define TX_DATA     0x20U
#define RX_STATUS   0x40U
#define TX_STATUS   0x48U
#define IRQ_CFG     0x54U
#define INT_STS     0x58U
#define INT_EN      0x5CU
#define BYTE_TEST   0x64U
#define FIFO_INT    0x68U
#define RX_CFG      0x6CU
#define TX_CFG      0x70U
#define HW_CFG      0x74U
#define RX_FIFO_INF 0x7CU
#define TX_FIFO_INF 0x80U
#define PMT_CTRL    0x84U
#define MAC_CMD     0xA4U
#define MAC_DATA    0xA8U

#define MAC_CR    1U
#define MAC_ADDRH 2U
#define MAC_ADDRL 3U

#define BYTE_TEST_VALUE  0x87654321U
#define HW_CFG_RESET     (1U << 0)
#define HW_CFG_TX_5K     0x00050000U
#define PMT_READY        (1U << 0)
#define TX_CFG_ON        (1U << 1)
#define IRQ_CFG_PUSHPULL 0x00000111U /* on, active high */
#define INT_RX_STATUS    (1U << 3)
#define MAC_CMD_BUSY     (1U << 31)
#define MAC_CMD_READ     (1U << 30)
#define MAC_FULL_DUPLEX  (1U << 20)
#define MAC_TX_ON        (1U << 3)
#define MAC_RX_ON        (1U << 2)
#define RX_ERROR         (1U << 15)
#define TX_FIRST_LAST    0x3000U
#define CHECK_LEN        4U
#define PATIENCE         100000U

static volatile uint32_t *reg(const struct sp_lan9118 *lan, uint32_t offset)
{
    return (volatile uint32_t *)(lan->base + offset);
}

static bool wait_for(const struct sp_lan9118 *lan, uint32_t offset, uint32_t mask, uint32_t value)
{
    for (uint32_t i = 0; i < PATIENCE; i++) {
        if ((*reg(lan, offset) & mask) == value) {
            return true;
        }
    }
    return false;
}

static bool mac_read(const struct sp_lan9118 *lan, uint32_t index, uint32_t *value)
{
    *reg(lan, MAC_CMD) = MAC_CMD_BUSY | MAC_CMD_READ | index;
    bool done = wait_for(lan, MAC_CMD, MAC_CMD_BUSY, 0);
    *value = *reg(lan, MAC_DATA);
    return done;
}

static bool mac_write(const struct sp_lan9118 *lan, uint32_t index, uint32_t value)
{
    *reg(lan, MAC_DATA) = value;
    *reg(lan, MAC_CMD) = MAC_CMD_BUSY | index;
    return wait_for(lan, MAC_CMD, MAC_CMD_BUSY, 0);
}

bool sp_lan9118_start(struct sp_lan9118 *lan, uintptr_t base)
{
    uint32_t low = 0;
    uint32_t high = 0;
    *lan = (struct sp_lan9118){.base = base};
    if (!wait_for(lan, BYTE_TEST, UINT32_MAX, BYTE_TEST_VALUE)) {
        return false;
    }
    *reg(lan, HW_CFG) = HW_CFG_RESET;
    if (!wait_for(lan, HW_CFG, HW_CFG_RESET, 0) || !wait_for(lan, PMT_CTRL, PMT_READY, PMT_READY) ||
        !mac_read(lan, MAC_ADDRL, &low) || !mac_read(lan, MAC_ADDRH, &high)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(lan->mac); i++) {
        lan->mac[i] = (uint8_t)(i < 4 ? low >> (8U * i) : high >> (8U * (i - 4U)));
    }
    *reg(lan, HW_CFG) = HW_CFG_TX_5K;
    *reg(lan, INT_EN) = 0;
    *reg(lan, INT_STS) = UINT32_MAX;
    *reg(lan, FIFO_INT) = 0; /* at the first frame */
    *reg(lan, RX_CFG) = 0;
    *reg(lan, TX_CFG) = TX_CFG_ON;
    *reg(lan, IRQ_CFG) = IRQ_CFG_PUSHPULL;
    return mac_write(lan, MAC_CR, MAC_FULL_DUPLEX | MAC_TX_ON | MAC_RX_ON);
}

size_t sp_lan9118_receive(struct sp_lan9118 *lan, uint32_t *frame)
{
    while ((*reg(lan, RX_FIFO_INF) & 0x00FF0000U) != 0) {
        uint32_t status = *reg(lan, RX_STATUS);
        uint32_t len = (status >> 16) & 0x3FFFU;
        uint32_t words = (len + 3U) / 4U;
        bool good =
            (status & RX_ERROR) == 0 && len > CHECK_LEN && len - CHECK_LEN <= SP_LAN9118_FRAME_MAX;
        for (uint32_t i = 0; i < words; i++) {
            uint32_t word = *reg(lan, RX_DATA);
            if (good && i * 4U < len - CHECK_LEN) {
                frame[i] = word;
            }
        }
        if (good) {
            return len - CHECK_LEN;
        }
    }
    return 0;
}

bool sp_lan9118_send(struct sp_lan9118 *lan, const uint32_t *frame, size_t len)
{
    while ((*reg(lan, TX_FIFO_INF) & 0x00FF0000U) != 0) {
        (void)*reg(lan, TX_STATUS); /* what became of earlier ones: TCP will tell */
    }
    size_t words = (len + 3U) / 4U;
    if (len == 0 || len > SP_LAN9118_FRAME_MAX ||
        (*reg(lan, TX_FIFO_INF) & 0xFFFFU) < (words + 2U) * 4U) {
        return false;
    }
    *reg(lan, TX_DATA) = TX_FIRST_LAST | (uint32_t)len;
    *reg(lan, TX_DATA) = (uint32_t)len;
    for (size_t i = 0; i < words; i++) {
        *reg(lan, TX_DATA) = frame[i];
    }
    return true;
}

bool sp_lan9118_listen(struct sp_lan9118 *lan)
{
    *reg(lan, INT_STS) = INT_RX_STATUS;
    *reg(lan, INT_EN) = INT_RX_STATUS;
    return (*reg(lan, RX_FIFO_INF) & 0x00FF0000U) == 0;
}

void sp_lan9118_hush(struct sp_lan9118 *lan)
{
    *reg(lan, INT_EN) = 0;
}
