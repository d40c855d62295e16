/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The non-secure world's way in, against everything that such a world may say; provisioning and randomness. */
#include "device/secure/spm/spm_ns.h"

#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/partitions/crypto/crypto_protocol.h"
#include "device/secure/partitions/initial_attestation/attestation_service.h"
#include "device/secure/partitions/its/its_service.h"
#include "device/secure/spm/spm.h"
#include "device/secure/start/provision.h"
#include "device/secure/test/shim.h"
#include "libs/base/test.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sid.h"

#include <psa/crypto.h>
#include <string.h>

#define PROBE    SP_SERVICE_HANDLE(20)
#define INTERNAL SP_SERVICE_HANDLE(21)

/* The non-secure world's memory, laid out. */
static struct {
    psa_invec in[4];
    psa_outvec out[4];
    struct sp_crypto_request request;
    uint8_t data[512];
    uint8_t result[1024];
} *const ns = (void *)sp_shim_arena;

static psa_msg_t seen;
static psa_status_t probe_status;
static psa_status_t inner_status;

/* A service that writes half of what it may, asks to be called again meanwhile, and returns what it is told. */
static psa_status_t probe(const psa_msg_t *msg)
{
    uint8_t bytes[8] = {0};
    seen = *msg;
    inner_status = sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, 0, 0), NULL, NULL);
    (void)psa_skip(msg->handle, 0, 2);
    size_t len = psa_read(msg->handle, 0, bytes, sizeof(bytes));
    psa_write(msg->handle, 0, bytes, len);
    psa_write(msg->handle, 0, bytes, msg->out_size[0]); /* more than fits: not written */
    psa_write(msg->handle + 1, 0, bytes, 1);            /* not this call's handle */
    return probe_status;
}

static const struct sp_spm_service probes[] = {
    {.handle = PROBE,
     .partition = 900,
     .function = probe,
     .sid = 7,
     .version = 3,
     .non_secure_clients = true},
    {.handle = INTERNAL, .partition = 901, .function = probe, .sid = 8, .version = 1},
};

static void use_probes(void)
{
    (void)memset(sp_shim_arena, 0, sizeof(sp_shim_arena));
    sp_spm_init(probes, 2);
    probe_status = PSA_SUCCESS;
    (void)memset(&seen, 0, sizeof(seen));
}

static psa_status_t call_probe(psa_handle_t handle, unsigned type)
{
    return sp_spm_ns_call(handle, SP_SPM_CONTROL(type, 1, 1), ns->in, ns->out);
}

static void a_service_sees_copies_and_a_negative_client(void)
{
    use_probes();
    (void)memcpy(ns->data, "abcdef", 6);
    ns->in[0] = (psa_invec){ns->data, 6};
    ns->out[0] = (psa_outvec){ns->result, 6};
    SP_CHECK_INT(call_probe(PROBE, 5), PSA_SUCCESS);
    SP_CHECK_INT(seen.type, 5);
    SP_CHECK(seen.client_id < 0);
    SP_CHECK_INT(seen.in_size[0], 6);
    SP_CHECK_INT(ns->out[0].len, 4);
    SP_CHECK(memcmp(ns->result, "cdef\0", 5) == 0);
}

static void a_call_within_a_call_is_busy(void)
{
    use_probes();
    ns->in[0] = (psa_invec){ns->data, 6};
    ns->out[0] = (psa_outvec){ns->result, 6};
    inner_status = PSA_SUCCESS;
    SP_CHECK_INT(call_probe(PROBE, 1), PSA_SUCCESS);
    SP_CHECK_INT(inner_status, PSA_ERROR_CONNECTION_BUSY);
    SP_CHECK_INT(call_probe(PROBE, 1), PSA_SUCCESS); /* and free again afterwards */
}

static void a_failure_leaves_lengths_and_no_bytes(void)
{
    use_probes();
    (void)memset(ns->data, 'x', 8);
    (void)memset(ns->result, 'y', 8);
    ns->in[0] = (psa_invec){ns->data, 6};
    ns->out[0] = (psa_outvec){ns->result, 6};
    probe_status = PSA_ERROR_INVALID_SIGNATURE;
    SP_CHECK_INT(call_probe(PROBE, 1), PSA_ERROR_INVALID_SIGNATURE);
    SP_CHECK_INT(ns->out[0].len, 6);
    SP_CHECK(memcmp(ns->result, "\0\0\0\0yyyy", 8) == 0);
}

static void services_that_are_not_for_it_do_not_exist(void)
{
    use_probes();
    ns->in[0] = (psa_invec){ns->data, 6};
    ns->out[0] = (psa_outvec){ns->result, 6};
    SP_CHECK_INT(call_probe(INTERNAL, 1), PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(call_probe(SP_SERVICE_HANDLE(22), 1), PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(call_probe(0, 1), PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(call_probe(PROBE, 0x8000), PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(sp_spm_version(SP_CLIENT_NON_SECURE, 7), 3);
    SP_CHECK_INT(sp_spm_version(SP_CLIENT_NON_SECURE, 8), PSA_VERSION_NONE);
    SP_CHECK_INT(sp_spm_version(900, 8), 1);
    SP_CHECK_INT(seen.type, 0);
}

static void bad_vectors_are_refused(void)
{
    static uint8_t secure[64];
    uint8_t *end = sp_shim_arena + SP_SHIM_ARENA;
    volatile uintptr_t before = (uintptr_t)sp_shim_arena - 1U; /* the compiler is not to know */
    const struct {
        const char *name;
        psa_invec in[2];
        psa_outvec out[2];
    } cases[] = {
        {"secure input", {{secure, 8}, {NULL, 0}}, {{NULL, 0}, {NULL, 0}}},
        {"secure output", {{NULL, 0}, {NULL, 0}}, {{secure, 8}, {NULL, 0}}},
        {"secure second input", {{ns->data, 8}, {secure, 1}}, {{NULL, 0}, {NULL, 0}}},
        {"over the end", {{end - 4, 5}, {NULL, 0}}, {{NULL, 0}, {NULL, 0}}},
        {"behind the end", {{end, 1}, {NULL, 0}}, {{NULL, 0}, {NULL, 0}}},
        {"before the beginning", {{(const void *)before, 2}, {NULL, 0}}, {{NULL, 0}, {NULL, 0}}},
        {"around the world", {{ns->data, SIZE_MAX}, {NULL, 0}}, {{NULL, 0}, {NULL, 0}}},
        {"around the world, out", {{NULL, 0}, {NULL, 0}}, {{ns->data, SIZE_MAX - 4}, {NULL, 0}}},
        {"NULL with a length", {{NULL, 1}, {NULL, 0}}, {{NULL, 0}, {NULL, 0}}},
        {"inputs that overlap", {{ns->data, 8}, {ns->data + 7, 8}}, {{NULL, 0}, {NULL, 0}}},
        {"the same input twice", {{ns->data, 8}, {ns->data, 8}}, {{NULL, 0}, {NULL, 0}}},
        {"outputs that overlap", {{NULL, 0}, {NULL, 0}}, {{ns->result, 8}, {ns->result + 4, 1}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        use_probes();
        (void)memcpy(ns->in, cases[i].in, sizeof(cases[i].in));
        (void)memcpy(ns->out, cases[i].out, sizeof(cases[i].out));
        psa_status_t status = sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, 2, 2), ns->in, ns->out);
        SP_CHECK_CASE(status == PSA_ERROR_PROGRAMMER_ERROR && seen.type == 0, cases[i].name);
    }
}

static void an_input_may_be_an_output(void)
{
    use_probes();
    (void)memcpy(ns->data, "abcdef", 6);
    ns->in[0] = (psa_invec){ns->data, 6};
    ns->out[0] = (psa_outvec){ns->data, 6};
    SP_CHECK_INT(call_probe(PROBE, 1), PSA_SUCCESS);
    SP_CHECK(memcmp(ns->data, "cdefef", 6) == 0);
}

static void counts_and_arrays_are_checked(void)
{
    static psa_invec secure_in[4];
    static psa_outvec secure_out[4];
    use_probes();
    for (unsigned i = 0; i < 256; i++) {
        for (unsigned o = 0; o < 256; o++) {
            psa_status_t status = sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, i, o), ns->in, ns->out);
            SP_CHECK((status == PSA_SUCCESS) == (i + o <= 4));
        }
    }
    SP_CHECK_INT(sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, 1, 0), secure_in, NULL),
                 PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, 0, 1), NULL, secure_out),
                 PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, 1, 0), NULL, NULL),
                 PSA_ERROR_PROGRAMMER_ERROR);
    const void *last = sp_shim_arena + SP_SHIM_ARENA - sizeof(psa_invec);
    SP_CHECK_INT(sp_spm_ns_call(PROBE, SP_SPM_CONTROL(1, 2, 0), last, NULL),
                 PSA_ERROR_PROGRAMMER_ERROR);
}

/* The real services, of a provisioned device. */
static void boot(void)
{
    (void)memset(sp_shim_arena, 0, sizeof(sp_shim_arena));
    sp_shim_writes_left = -1;
    sp_shim_now_ms = 1000;
    sp_shim_erase();
    sp_shim_put_parcel();
    SP_CHECK_INT(sp_shim_boot(), PSA_SUCCESS);
}

static psa_status_t crypto(enum sp_crypto_function function, size_t in_len, size_t out_len)
{
    ns->in[0] = (psa_invec){&ns->request, sizeof(ns->request)};
    ns->in[1] = (psa_invec){ns->data, in_len};
    ns->out[0] = (psa_outvec){ns->result, out_len};
    return sp_spm_ns_call(TFM_CRYPTO_HANDLE, SP_SPM_CONTROL(function, 2, 1), ns->in, ns->out);
}

static void secrets_do_not_leave(void)
{
    boot();
    ns->request = (struct sp_crypto_request){.key = SP_KEY_PSK};
    SP_CHECK_INT(crypto(SP_CRYPTO_EXPORT_KEY, 0, 64), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(crypto(SP_CRYPTO_DESTROY_KEY, 0, 0), PSA_ERROR_NOT_PERMITTED);
    ns->request = (struct sp_crypto_request){.key = SP_KEY_IAK};
    SP_CHECK_INT(crypto(SP_CRYPTO_EXPORT_KEY, 0, 64), PSA_ERROR_INVALID_HANDLE);
    SP_CHECK_INT(crypto(SP_CRYPTO_DESTROY_KEY, 0, 0), PSA_ERROR_INVALID_HANDLE);
    ns->request.algorithm = PSA_ALG_HMAC(PSA_ALG_SHA_256);
    SP_CHECK_INT(crypto(SP_CRYPTO_MAC_COMPUTE, 3, 64), PSA_ERROR_INVALID_HANDLE);
}

/* Whose operation and which key a number means depends on who says it. */
static void handles_of_others_are_worth_nothing(void)
{
    boot();
    ns->request = (struct sp_crypto_request){.algorithm = PSA_ALG_SHA_256};
    SP_CHECK_INT(crypto(SP_CRYPTO_HASH_SETUP, 0, 4), PSA_SUCCESS);
    uint32_t handle = 0;
    (void)memcpy(&handle, ns->result, sizeof(handle));
    struct sp_crypto_request request = {.operation = handle};
    psa_invec in[] = {{&request, sizeof(request)}, {"x", 1}};
    SP_CHECK(sp_spm_enter(SP_PARTITION_SENSOR));
    SP_CHECK_INT(psa_call(TFM_CRYPTO_HANDLE, SP_CRYPTO_HASH_UPDATE, in, 2, NULL, 0),
                 PSA_ERROR_BAD_STATE);
    sp_spm_leave();
    ns->request.operation = handle;
    SP_CHECK_INT(crypto(SP_CRYPTO_HASH_UPDATE, 3, 0), PSA_SUCCESS);
    SP_CHECK_INT(crypto(SP_CRYPTO_HASH_FINISH, 0, 31), PSA_ERROR_BUFFER_TOO_SMALL);
    SP_CHECK_INT(crypto(SP_CRYPTO_HASH_FINISH, 0, 32),
                 PSA_ERROR_BAD_STATE); /* a failure ended it */
}

static void requests_that_make_no_sense_are_refused(void)
{
    boot();
    ns->request = (struct sp_crypto_request){.nonce_len = 17};
    SP_CHECK_INT(crypto(SP_CRYPTO_AEAD_ENCRYPT, 0, 0), PSA_ERROR_PROGRAMMER_ERROR);
    ns->request = (struct sp_crypto_request){0};
    SP_CHECK_INT(crypto(SP_CRYPTO_FUNCTION_END, 0, 0), PSA_ERROR_NOT_SUPPORTED);
    SP_CHECK_INT(crypto((enum sp_crypto_function)0, 0, 0), PSA_ERROR_NOT_SUPPORTED);
    SP_CHECK_INT(crypto(SP_CRYPTO_ABORT, 0, 0), PSA_SUCCESS);
    ns->in[0] = (psa_invec){&ns->request, sizeof(ns->request) - 1};
    SP_CHECK_INT(sp_spm_ns_call(TFM_CRYPTO_HANDLE, SP_SPM_CONTROL(1, 1, 0), ns->in, NULL),
                 PSA_ERROR_PROGRAMMER_ERROR);
}

static psa_status_t token(void)
{
    ns->in[0] = (psa_invec){ns->data, 32};
    ns->out[0] = (psa_outvec){ns->result, sizeof(ns->result)};
    return sp_spm_ns_call(TFM_ATTESTATION_SERVICE_HANDLE,
                          SP_SPM_CONTROL(SP_ATTESTATION_GET_TOKEN, 1, 1), ns->in, ns->out);
}

static void tokens_are_rationed(void)
{
    boot();
    for (unsigned i = 0; i < SP_ATTESTATION_BURST; i++) {
        SP_CHECK_INT(token(), PSA_SUCCESS);
    }
    SP_CHECK_INT(token(), PSA_ERROR_CONNECTION_BUSY);
    sp_shim_now_ms += SP_ATTESTATION_INTERVAL_MS - 1U;
    SP_CHECK_INT(token(), PSA_ERROR_CONNECTION_BUSY);
    sp_shim_now_ms += 1;
    SP_CHECK_INT(token(), PSA_SUCCESS);
    SP_CHECK_INT(token(), PSA_ERROR_CONNECTION_BUSY);
    sp_shim_now_ms += UINT32_MAX;
    for (unsigned i = 0; i < SP_ATTESTATION_BURST; i++) {
        SP_CHECK_INT(token(), PSA_SUCCESS);
    }
    SP_CHECK_INT(token(), PSA_ERROR_CONNECTION_BUSY);
}

static bool contains(const uint8_t *bytes, size_t len, const uint8_t *what)
{
    for (size_t i = 0; i + 32 <= len; i++) {
        if (memcmp(bytes + i, what, 32) == 0) {
            return true;
        }
    }
    return false;
}

static void a_parcel_is_taken_once_and_erased(void)
{
    boot();
    SP_CHECK(sp_secure_provisioned());
    SP_CHECK_INT(sp_provision_lifecycle(), 0x3000);
    SP_CHECK(!contains(sp_shim_medium + SP_PROVISION_OFFSET, SP_SHIM_MEDIUM - SP_PROVISION_OFFSET,
                       sp_shim_psk));
    const struct sp_its_address at = {.uid = 2};
    (void)memcpy(ns->data, &at, sizeof(at));
    ns->in[0] = (psa_invec){ns->data, sizeof(at)};
    ns->out[0] = (psa_outvec){ns->result, 8};
    SP_CHECK_INT(sp_spm_ns_call(TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE,
                                SP_SPM_CONTROL(SP_ITS_GET, 1, 1), ns->in, ns->out),
                 PSA_SUCCESS);
    SP_CHECK(ns->out[0].len == 2 && memcmp(ns->result, "hi", 2) == 0);
    SP_CHECK_INT(sp_shim_boot(), PSA_SUCCESS);
    SP_CHECK(sp_secure_provisioned());
}

/* At every write of a first boot the power fails once: the next boot finishes what was begun. */
static void a_first_boot_that_is_cut_is_made_up_for(void)
{
    bool finished = false;
    unsigned cuts = 0;
    for (long left = 1; left < 200 && !finished; left++) {
        sp_shim_erase();
        sp_shim_put_parcel();
        sp_shim_writes_left = left;
        finished = sp_shim_boot() == PSA_SUCCESS;
        cuts += !finished;
        sp_shim_writes_left = -1;
        SP_CHECK_INT(sp_shim_boot(), PSA_SUCCESS);
        SP_CHECK(sp_secure_provisioned());
        SP_CHECK_INT(sp_provision_lifecycle(), 0x3000);
        SP_CHECK(!contains(sp_shim_medium + SP_PROVISION_OFFSET,
                           SP_SHIM_MEDIUM - SP_PROVISION_OFFSET, sp_shim_psk));
        SP_CHECK_INT(token(), PSA_SUCCESS);
    }
    SP_CHECK(finished && cuts >= 10);
}

static void a_damaged_parcel_is_no_parcel(void)
{
    sp_shim_writes_left = -1;
    for (size_t place = 0; place < 200; place += 7) {
        sp_shim_erase();
        sp_shim_put_parcel();
        sp_shim_medium[SP_PROVISION_OFFSET + place] ^= 1;
        SP_CHECK(sp_shim_boot() != PSA_SUCCESS);
        SP_CHECK(!sp_secure_provisioned());
    }
}

static void random_numbers(uint8_t *out)
{
    SP_CHECK_INT(sp_shim_boot(), PSA_SUCCESS);
    SP_CHECK_INT(psa_generate_random(out, 16), PSA_SUCCESS);
}

static void no_two_boots_have_the_same_random_numbers(void)
{
    static uint8_t drawn[40][16];
    boot();
    for (unsigned i = 0; i < 40; i++) {
        sp_shim_writes_left = 1 + i % 3; /* a boot that is cut draws nothing */
        if (i % 2 == 0 && sp_shim_boot() != PSA_SUCCESS) {
            SP_CHECK_INT(psa_generate_random(drawn[i], 16), PSA_ERROR_INSUFFICIENT_ENTROPY);
        }
        sp_shim_writes_left = -1;
        random_numbers(drawn[i]);
        for (unsigned k = 0; k < i; k++) {
            SP_CHECK(memcmp(drawn[i], drawn[k], 16) != 0);
        }
    }
}

static const struct sp_test tests[] = {
    SP_TEST(a_service_sees_copies_and_a_negative_client),
    SP_TEST(a_call_within_a_call_is_busy),
    SP_TEST(a_failure_leaves_lengths_and_no_bytes),
    SP_TEST(services_that_are_not_for_it_do_not_exist),
    SP_TEST(bad_vectors_are_refused),
    SP_TEST(an_input_may_be_an_output),
    SP_TEST(counts_and_arrays_are_checked),
    SP_TEST(secrets_do_not_leave),
    SP_TEST(handles_of_others_are_worth_nothing),
    SP_TEST(requests_that_make_no_sense_are_refused),
    SP_TEST(tokens_are_rationed),
    SP_TEST(a_parcel_is_taken_once_and_erased),
    SP_TEST(a_first_boot_that_is_cut_is_made_up_for),
    SP_TEST(a_damaged_parcel_is_no_parcel),
    SP_TEST(no_two_boots_have_the_same_random_numbers),
};

SP_TEST_MAIN(tests)
