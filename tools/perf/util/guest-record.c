// SPDX-License-Identifier: GPL-2.0
/*
 * Refuse options that cannot be recorded of guests, before perf records. Refuse data
 * without samples of the guests that were asked for.
 */
#include <errno.h>
#include <api/fs/fs.h>
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/perf_event.h>

#include "debug.h"
#include "evlist.h"
#include "evsel.h"
#include "guest-options.h"
#include "guest-record.h"
#include "target.h"
#include "util.h"

/* The parts of a sample that are the host's, even if the sample is taken in a guest */
static const struct {
	u64 sample_type;
	const char *options;
	const char *recorded;
	const char *remedy;
} host_only[] = {
	{ PERF_SAMPLE_BRANCH_STACK, "-b and --call-graph=lbr",
	  "the branches of the host", "Leave them out" },
	{ PERF_SAMPLE_STACK_USER, "--call-graph=dwarf",
	  "the stack and the registers of the VMM", "Use --call-graph=fp" },
	{ PERF_SAMPLE_REGS_USER, "--user-regs", "the registers of the VMM", "Leave it out" },
	{ PERF_SAMPLE_REGS_INTR, "--intr-regs", "the registers of the host", "Leave it out" },
};

/* Tracepoints and most software events happen in the host, even on behalf of a guest. */
static bool evsel__can_sample_guests(struct evsel *evsel)
{
	switch (evsel->core.attr.type) {
	case PERF_TYPE_TRACEPOINT:
	case PERF_TYPE_BREAKPOINT:
		return false;
	case PERF_TYPE_SOFTWARE:
		return evsel__is_clock(evsel);
	default:
		return true;
	}
}

/*
 * KVM can switch the CPU's branch records at VM entries. Call stacks of branches would
 * also have to be switched with the tasks of the guest.
 */
static bool evsel__can_record_guest_branches(struct evsel *evsel)
{
	int entries;

	return evsel->core.attr.type != PERF_TYPE_SOFTWARE &&
	       !(evsel->core.attr.branch_sample_type & PERF_SAMPLE_BRANCH_CALL_STACK) &&
	       !sysfs__read_int("bus/event_source/devices/cpu/caps/guest_branches", &entries) &&
	       entries > 0;
}

/* Do samples of guests have the guest's registers and stacks, not the VMM's? */
bool __weak evsel__dumps_guests(struct evsel *evsel __maybe_unused)
{
	return false;
}

static int evsel__check_guest_samples(struct evsel *evsel)
{
	u64 sample_type = evsel->core.attr.sample_type;

	if (evsel__can_record_guest_branches(evsel))
		sample_type &= ~PERF_SAMPLE_BRANCH_STACK;
	if (evsel__dumps_guests(evsel))
		sample_type &= ~(PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER);
	for (size_t i = 0; i < ARRAY_SIZE(host_only); i++) {
		if (!(sample_type & host_only[i].sample_type))
			continue;
		pr_err("%s samples guests, for which %s would record %s. %s, or sample the host alone (event modifier H).\n",
		       evsel__name(evsel), host_only[i].options, host_only[i].recorded,
		       host_only[i].remedy);
		return -EINVAL;
	}
	return 0;
}

/*
 * Event modifiers such as :P and :k clear exclude_guest too. Only "perf kvm" and :G ask
 * for guests.
 */
static bool evsel__asks_for_guests(struct evsel *evsel)
{
	return !evsel->core.attr.exclude_guest && (perf_guest || evsel->exclude_GH);
}

bool evsel__samples_guests(struct evsel *evsel)
{
	return !evsel__is_dummy_event(evsel) && evsel__asks_for_guests(evsel) &&
	       evsel__can_sample_guests(evsel);
}

/* "perf kvm" without --host: it is an error if no guest is sampled. */
static bool want_guests;

void guest_record__want_guests(void)
{
	want_guests = perf_guest && !perf_host;
}

int guest_record__check(struct evlist *evlist)
{
	struct evsel *evsel, *host_event = NULL;
	bool sample_guests = false;
	int err;

	evlist__for_each_entry(evlist, evsel) {
		if (evsel__is_dummy_event(evsel))
			continue;
		if (!evsel__asks_for_guests(evsel) || !evsel__can_sample_guests(evsel)) {
			host_event = evsel;
			continue;
		}
		sample_guests = true;
		err = evsel__check_guest_samples(evsel);
		if (err)
			return err;
	}

	if (!want_guests || sample_guests || !host_event)
		return 0;
	pr_err("%s does not sample guests, it happens in the host. Use cycles or cpu-clock, or perf kvm --host.\n",
	       evsel__name(host_event));
	return -EINVAL;
}

/* To be called when all samples have been looked at. */
int guest_record__check_samples(struct evlist *evlist, struct target *target)
{
	if (!want_guests || evlist->stats.nr_guest_samples || !target__none(target))
		return 0;
	pr_err("The command has run no guest, so no guest was sampled. Use -a, or -p with the PID of a VMM.\n");
	return -ENODATA;
}

/* Refuse to show guests of data without samples of guests. */
int guest_data__check(struct evlist *evlist, const char *path)
{
	if (!perf_guest || evlist->stats.nr_guest_samples ||
	    (perf_host && !guest_options__given()))
		return 0;
	pr_err("%s has no samples of guests. Record with perf kvm --guest record -a, while a guest runs.\n",
	       path);
	return -ENODATA;
}

/*
 * Let events without the modifiers G and H sample guests as well as the host. Precise
 * events (:p) exclude guests.
 */
void guest_record__add_guests(struct evlist *evlist)
{
	struct evsel *evsel;

	evlist__for_each_entry(evlist, evsel) {
		if (!evsel->exclude_GH && !evsel->core.attr.precise_ip)
			evsel->core.attr.exclude_guest = 0;
	}
}
