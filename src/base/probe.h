/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Static probes (USDT) of provider pcache, for bpftrace, perf and SystemTap: docs/PROBES.md lists them. Each is a nop and a note in the ELF file; without sys/sdt.h at build time it is
 * nothing at all. Arguments are integers that the code has at hand.
 */
#ifndef PC_BASE_PROBE_H
#define PC_BASE_PROBE_H

#ifdef PC_HAVE_SDT
#include <sys/sdt.h>
#define PC_PROBE1(name, a) DTRACE_PROBE1(pcache, name, a)
#define PC_PROBE2(name, a, b) DTRACE_PROBE2(pcache, name, a, b)
#define PC_PROBE3(name, a, b, c) DTRACE_PROBE3(pcache, name, a, b, c)
#else
#define PC_PROBE1(name, a) ((void)(a))
#define PC_PROBE2(name, a, b) ((void)(a), (void)(b))
#define PC_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
