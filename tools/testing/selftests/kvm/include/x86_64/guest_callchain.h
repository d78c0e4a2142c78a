/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tests of the call chains that KVM reports to perf for samples of a guest: small
 * guests with hand-made page tables and frames, and checks of the sampled chains.
 */
#ifndef SELFTEST_KVM_GUEST_CALLCHAIN_H
#define SELFTEST_KVM_GUEST_CALLCHAIN_H

#include <linux/perf_event.h>
#include <stdint.h>

#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"

#define MEM_SIZE	0x800000ul
#define CODE_GPA	0x2000ul
#define TABLES_GPA	0x10000ul
#define TABLES_END	0x100000ul
#define PAGE_4M		0x400000ul	/* also a page of 2M */
#define HIGH_GPA	0x100000000ul	/* above 4G: needs PSE-36 */
#define HOLE_GPA	0x80000000ul

#define MEM_SLOT	0
#define EXTRA_SLOT	1

#define PTE_P		BIT_ULL(0)
#define PTE_W		BIT_ULL(1)
#define PTE_U		BIT_ULL(2)
#define PTE_A		BIT_ULL(5)
#define PTE_D		BIT_ULL(6)
#define PTE_PS		BIT_ULL(7)
#define PTE_RSVD	BIT_ULL(51)
#define PTE_NX		BIT_ULL(63)

#define SPINS		3000000
#define MIN_SAMPLES	20
#define MAX_RUNS	100	/* until MIN_SAMPLES, on a fast CPU */

enum paging { PAGING_32, PAGING_PAE, PAGING_64, PAGING_LA57 };

struct mode {
	enum paging paging;
	bool code64;
	int ring;
	int leaf;		/* level of the stack's pages */
	uint64_t high;		/* the stack's memslot, if above 4G */
};

struct guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct mode mode;
	uint64_t cr3;
	uint64_t next_table;
	uint64_t code;		/* virtual */
	size_t code_size;
	uint64_t stack;		/* virtual: two pages */
	uint64_t stack_gpa[2];
	uint64_t rsp, rbp;	/* at the start of a run */
};

extern const struct mode mode_kernel64;
extern const struct mode mode_user64;
extern const struct mode mode_kernel_2m;
extern const struct mode mode_kernel_pae;

int guest_levels(struct guest *g);
void *guest_hva(struct guest *g, uint64_t gpa);
uint64_t guest_alloc_table(struct guest *g);
uint64_t guest_entry_get(struct guest *g, void *entry);
void guest_entry_set(struct guest *g, void *entry, uint64_t val);
void *guest_find_entry(struct guest *g, uint64_t gva, int level);
void guest_map(struct guest *g, uint64_t gva, uint64_t gpa, int leaf, uint64_t flags);
void guest_map_code(struct guest *g, const void *code, size_t size);
struct kvm_vcpu *guest_add_vcpu(struct guest *g, int id);
void put_word(struct guest *g, uint64_t at, uint64_t val);
void put_frame(struct guest *g, uint64_t at, uint64_t next, uint64_t ret);
uint64_t frame_at(struct guest *g, int n);
uint64_t return_address(struct guest *g, int n);
struct guest *guest_new(const struct mode *mode);
void guest_free(struct guest *g);
uint64_t guest_checksum(struct guest *g);
void guest_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
void guest_sample_regs(struct sampler *sampler, struct guest *g, struct kvm_regs *regs);
struct kvm_regs guest_spin_regs(struct guest *g, uint64_t spins);
void guest_sample(struct sampler *sampler, struct guest *g);
void guest_run_unsampled(struct guest *g);
void guest_enter_nested(struct guest *g);
void guest_set_16_bits(struct guest *g);
void guest_disable_paging(struct guest *g);
void guest_enter_smm(struct guest *g);
const char *sample_check_start(struct guest *g, const struct sample *sample);
void sample_dump(const struct sample *sample);
void expect_samples(struct guest *g, struct perf_event_attr *attr,
		    const char *(*check)(struct guest *g, const struct sample *sample,
					 const void *data),
		    const void *data);
void expect_frames_attr(struct guest *g, unsigned int frames,
			struct perf_event_attr *attr);
void expect_frames(struct guest *g, unsigned int frames);

#endif /* SELFTEST_KVM_GUEST_CALLCHAIN_H */
