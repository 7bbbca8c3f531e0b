/* SPDX-License-Identifier: BSD-3-Clause */
/* The cells of the fault matrix about media, see matrix.h. */
#include "fault/matrix.h"

int main(void)
{
	return fault_test_group("media");
}
