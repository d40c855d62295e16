/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/base/err.h"

const char *sp_err_text(enum sp_err err)
{
    switch (err) {
#define X(name, number, class, text) \
    case SP_##name:                  \
        return text;
        SP_ERR_MAP(X)
#undef X
    }
    return "unknown error";
}

const char *sp_err_name(enum sp_err err)
{
    switch (err) {
#define X(name, number, class, text) \
    case SP_##name:                  \
        return #name;
        SP_ERR_MAP(X)
#undef X
    }
    return "ERR_UNKNOWN";
}

enum sp_err_class sp_err_class(enum sp_err err)
{
    switch (err) {
#define X(name, number, class, text) \
    case SP_##name:                  \
        return SP_CLASS_##class;
        SP_ERR_MAP(X)
#undef X
    }
    return SP_CLASS_BUG;
}
