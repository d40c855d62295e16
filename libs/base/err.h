/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file One list of errors for every library and process; numbers are stable, they travel in logs. */
#ifndef SP_LIBS_BASE_ERR_H
#define SP_LIBS_BASE_ERR_H

/** What to do about an error, whatever its exact code. */
enum sp_err_class {
    SP_CLASS_NONE,   /**< nothing is wrong */
    SP_CLASS_RETRY,  /**< call again later, with more input or after a wait */
    SP_CLASS_LOCAL,  /**< our own resources: shed load, refuse, carry on */
    SP_CLASS_PEER,   /**< the other side broke the rules: close it */
    SP_CLASS_POLICY, /**< well formed, but not allowed: refuse it */
    SP_CLASS_BUG,    /**< we called it wrongly */
};

#define SP_ERR_MAP(X)                                                 \
    X(OK, 0, NONE, "success")                                         \
    X(ERR_AGAIN, 1, RETRY, "more input or time is needed")            \
    X(ERR_SPACE, 2, LOCAL, "the buffer is too small")                 \
    X(ERR_NOMEM, 3, LOCAL, "out of memory")                           \
    X(ERR_MALFORMED, 4, PEER, "input breaks the format")              \
    X(ERR_PROTOCOL, 5, PEER, "input is well formed but out of turn")  \
    X(ERR_UNTRUSTED, 6, POLICY, "a signature or a claim was refused") \
    X(ERR_ARGUMENT, 7, BUG, "the caller passed an impossible value")  \
    X(ERR_LIMIT, 8, POLICY, "a limit would be exceeded")              \
    X(ERR_UNSUPPORTED, 9, POLICY, "not supported")                    \
    X(ERR_NOT_FOUND, 10, POLICY, "no such entry")                     \
    X(ERR_EXISTS, 11, POLICY, "the entry exists already")             \
    X(ERR_CLOSED, 12, PEER, "the other side closed")                  \
    X(ERR_IO, 13, LOCAL, "reading or writing failed")                 \
    X(ERR_CRYPTO, 14, LOCAL, "the crypto library failed")             \
    X(ERR_DENIED, 15, POLICY, "not permitted")                        \
    X(ERR_STATE, 16, BUG, "called in the wrong state")

enum sp_err {
#define X(name, number, class, text) SP_##name = (number),
    SP_ERR_MAP(X)
#undef X
};

/** The caller must look at the result. */
#define SP_MUST_CHECK __attribute__((warn_unused_result))

/** One line of English, without a full stop; never NULL, also for unknown numbers. */
const char *sp_err_text(enum sp_err err);

/** The short name, `ERR_MALFORMED`; never NULL. */
const char *sp_err_name(enum sp_err err);

/** The class of an error; unknown numbers are SP_CLASS_BUG. */
enum sp_err_class sp_err_class(enum sp_err err);

/** Return from the calling function on any error. Only for functions that own nothing. */
#define SP_TRY(expression)                      \
    do {                                        \
        enum sp_err sp_try_err_ = (expression); \
        if (sp_try_err_ != SP_OK) {             \
            return sp_try_err_;                 \
        }                                       \
    } while (0)

#endif
