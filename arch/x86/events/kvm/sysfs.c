// SPDX-License-Identifier: GPL-2.0
/* The attributes of the paravirtual PMU, with events of the host's CPU */
#include <linux/device.h>
#include <linux/perf_event.h>
#include <linux/sysfs.h>

#include <asm/cpu.h>

#include "kvm.h"

static ssize_t event_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "config:0-7%s\n",
			  pv_pmu_has_amd_events(READ_ONCE(pv_pmu_host)) ? ",32-35" : "");
}
static DEVICE_ATTR_RO(event);
PMU_FORMAT_ATTR(umask,	"config:8-15");
PMU_FORMAT_ATTR(edge,	"config:18");
PMU_FORMAT_ATTR(inv,	"config:23");
PMU_FORMAT_ATTR(cmask,	"config:24-31");

static struct attribute *pv_pmu_format_attrs[] = {
	&dev_attr_event.attr,
	&format_attr_umask.attr,
	&format_attr_edge.attr,
	&format_attr_inv.attr,
	&format_attr_cmask.attr,
	NULL
};

static const struct attribute_group pv_pmu_format_group = {
	.name = "format",
	.attrs = pv_pmu_format_attrs,
};

/*
 * Generic events as raw events, for versions of perf that need them in sysfs. The host may
 * choose another raw event of the same meaning for a generic event.
 */
enum { INTEL, AMD, ZEN1, ZEN2 };

static const u64 pv_pmu_raw_configs[][4] = {
	[PERF_COUNT_HW_CPU_CYCLES]		= { 0x003c, 0x0076, 0x0076, 0x0076 },
	[PERF_COUNT_HW_INSTRUCTIONS]		= { 0x00c0, 0x00c0, 0x00c0, 0x00c0 },
	[PERF_COUNT_HW_CACHE_REFERENCES]	= { 0x4f2e, 0x077d, 0xff60, 0xff60 },
	[PERF_COUNT_HW_CACHE_MISSES]		= { 0x412e, 0x077e, 0x0964, 0x0964 },
	[PERF_COUNT_HW_BRANCH_INSTRUCTIONS]	= { 0x00c4, 0x00c2, 0x00c2, 0x00c2 },
	[PERF_COUNT_HW_BRANCH_MISSES]		= { 0x00c5, 0x00c3, 0x00c3, 0x00c3 },
	[PERF_COUNT_HW_STALLED_CYCLES_FRONTEND]	= {	 0, 0x00d0, 0x0287, 0x00a9 },
	[PERF_COUNT_HW_STALLED_CYCLES_BACKEND]	= {	 0, 0x00d1, 0x0187,	 0 },
};

/* The models of family 0x17 with the events of Zen 1 */
static bool pv_pmu_is_zen1(u32 model)
{
	return model <= 0x2f || (model >= 0x50 && model <= 0x5f);
}

static unsigned int pv_pmu_column(u64 host)
{
	u32 signature = lower_32_bits(host), family = x86_family(signature);

	if (!pv_pmu_has_amd_events(host))
		return INTEL;
	if (family < 0x17)
		return AMD;
	if (family == 0x18 || (family == 0x17 && pv_pmu_is_zen1(x86_model(signature))))
		return ZEN1;
	return ZEN2;
}

/* 0 if there is none */
static u64 pv_pmu_config_of_attr(struct device_attribute *attr)
{
	unsigned int generic = container_of(attr, struct perf_pmu_events_attr, attr)->id;

	return pv_pmu_raw_configs[generic][pv_pmu_column(READ_ONCE(pv_pmu_host))];
}

static ssize_t pv_pmu_event_show(struct device *dev, struct device_attribute *attr, char *page)
{
	u64 config = pv_pmu_config_of_attr(attr);

	if (config >> 8)
		return sysfs_emit(page, "event=0x%02llx,umask=0x%02llx\n",
				  config & 0xff, config >> 8);
	return sysfs_emit(page, "event=0x%02llx\n", config);
}

static umode_t pv_pmu_event_visible(struct kobject *kobj, struct attribute *attr, int index)
{
	struct device_attribute *event = container_of(attr, struct device_attribute, attr);
	u64 config = pv_pmu_config_of_attr(event);

	return config && pv_probe_can_count(PERF_TYPE_RAW, config) ? attr->mode : 0;
}

#define PV_PMU_EVENT(_name, _id)						\
	(&((struct perf_pmu_events_attr[]) { {					\
		.attr = {							\
			.attr = { .name = _name, .mode = 0444 },		\
			.show = pv_pmu_event_show,				\
		},								\
		.id = PERF_COUNT_HW_##_id,					\
	} })[0].attr.attr)

static struct attribute *pv_pmu_event_attrs[] = {
	PV_PMU_EVENT("cpu-cycles", CPU_CYCLES),
	PV_PMU_EVENT("instructions", INSTRUCTIONS),
	PV_PMU_EVENT("cache-references", CACHE_REFERENCES),
	PV_PMU_EVENT("cache-misses", CACHE_MISSES),
	PV_PMU_EVENT("branch-instructions", BRANCH_INSTRUCTIONS),
	PV_PMU_EVENT("branch-misses", BRANCH_MISSES),
	PV_PMU_EVENT("stalled-cycles-frontend", STALLED_CYCLES_FRONTEND),
	PV_PMU_EVENT("stalled-cycles-backend", STALLED_CYCLES_BACKEND),
	NULL
};

static const struct attribute_group pv_pmu_events_group = {
	.name = "events",
	.attrs = pv_pmu_event_attrs,
	.is_visible = pv_pmu_event_visible,
};

static ssize_t pmu_name_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "kvm_pv\n");
}
static DEVICE_ATTR_RO(pmu_name);

/* 0: there are no precise events. */
static ssize_t max_precise_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "0\n");
}
static DEVICE_ATTR_RO(max_precise);

static ssize_t branches_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "%u\n", READ_ONCE(pv_pmu_host_branches));
}
static DEVICE_ATTR_RO(branches);

static struct attribute *pv_pmu_caps_attrs[] = {
	&dev_attr_pmu_name.attr,
	&dev_attr_max_precise.attr,
	&dev_attr_branches.attr,
	NULL
};

static umode_t pv_pmu_cap_visible(struct kobject *kobj, struct attribute *attr, int index)
{
	if (attr == &dev_attr_branches.attr && !READ_ONCE(pv_pmu_host_branches))
		return 0;
	return attr->mode;
}

static const struct attribute_group pv_pmu_caps_group = {
	.name = "caps",
	.attrs = pv_pmu_caps_attrs,
	.is_visible = pv_pmu_cap_visible,
};

const struct attribute_group *pv_pmu_attr_groups[] = {
	&pv_pmu_format_group,
	&pv_pmu_events_group,
	&pv_pmu_caps_group,
	NULL
};
