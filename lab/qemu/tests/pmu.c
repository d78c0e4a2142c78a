#include "test.h"
const struct test pmu_tests[] = { { } };
