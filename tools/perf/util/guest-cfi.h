/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_CFI_H
#define __PERF_GUEST_CFI_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/compiler.h>
#include <linux/types.h>

struct guest_cfi;
struct guest_dump;
struct guest_process;

/* The registers of a sample; dwarf[] is in the order of DWARF's numbers. */
struct guest_regs {
	bool is_64_bit;
	u64 ip;
	u64 sp;
	u64 dwarf[17];
};

enum guest_cfi_end {
	GUEST_CFI_ROOT,		/* the CFI says that nothing has called this function */
	GUEST_CFI_STOP,		/* no CFI, no file, or no more of the stack */
	GUEST_CFI_BAD,		/* the stack is not one of this process */
};

/* A call chain: the IP, and for each caller an address in the call before the return address */
struct guest_chain {
	u64 *ips;
	unsigned int max;
	unsigned int nr;
	unsigned int calls;	/* return addresses that are behind a call */
};

#ifdef HAVE_DWARF_SUPPORT
struct guest_cfi *guest_cfi__new(struct guest_process *process);
void guest_cfi__delete(struct guest_cfi *cfi);
enum guest_cfi_end guest_cfi__unwind(struct guest_cfi *cfi, const struct guest_regs *regs,
				     const struct guest_dump *dump, struct guest_chain *chain);
#else
static inline struct guest_cfi *guest_cfi__new(struct guest_process *process __maybe_unused)
{
	return NULL;
}

static inline void guest_cfi__delete(struct guest_cfi *cfi __maybe_unused) {}

static inline enum guest_cfi_end
guest_cfi__unwind(struct guest_cfi *cfi __maybe_unused,
		  const struct guest_regs *regs __maybe_unused,
		  const struct guest_dump *dump __maybe_unused,
		  struct guest_chain *chain __maybe_unused)
{
	return GUEST_CFI_BAD;
}
#endif

#endif /* __PERF_GUEST_CFI_H */
