/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of options, for the files of this folder. Ids must exist where nothing else is said. */
#ifndef PC_API_OPTION_H
#define PC_API_OPTION_H

#include "base/types.h"
#include "pcache/config.h"

bool pc_option_exists(int option);
/* While a cache is open. */
bool pc_option_may_change(int option);
uint64_t pc_option_default(int option);
bool pc_option_valid(int option, uint64_t value);

#endif
