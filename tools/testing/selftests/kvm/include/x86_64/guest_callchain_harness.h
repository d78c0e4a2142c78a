/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture of the tests of call chains: a guest in the kernel, and a guest in user
 * space.
 */
#ifndef SELFTEST_KVM_GUEST_CALLCHAIN_HARNESS_H
#define SELFTEST_KVM_GUEST_CALLCHAIN_HARNESS_H

#include "guest_callchain.h"
#include "kvm_test_harness.h"

FIXTURE(guest) {
	struct guest *kernel;
	struct guest *user;
};

FIXTURE_SETUP(guest)
{
	self->kernel = guest_new(&mode_kernel64);
	self->user = guest_new(&mode_user64);
}

FIXTURE_TEARDOWN(guest)
{
	guest_free(self->kernel);
	guest_free(self->user);
}

#endif /* SELFTEST_KVM_GUEST_CALLCHAIN_HARNESS_H */
