// SPDX-License-Identifier: GPL-2.0
/*
 * C++ as distributions build it, optimized and without frame pointers, for walks of call
 * chains that find no frames. Almost all time is in work(), which is called from
 *
 *	walk(), up to 20 times descend()
 *	sort(), by std::sort and std::map, less()
 *	table(), whose array of any size is the reason for a frame, fill()
 *	catches(), below which an exception was thrown
 *	calls(), through a std::function, lambda()
 *
 * RBP is a variable like any other: it has addresses of the stack, and of the heap.
 *
 *	unframed [ROUNDS]	(200: some 200 million instructions)
 */
#include <algorithm>
#include <alloca.h>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "vary.h"

#define FUNCTION	extern "C" __attribute__((noinline))

/* No call before is a tail call. */
#define after_call()	asm volatile("")

FUNCTION void work(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));
}

FUNCTION void descend(unsigned int depth, std::string *path)
{
	std::string longer = *path + char('a' + depth);

	if (depth)
		descend(depth - 1, &longer);
	else
		work(vary(50000));
	path->append(longer, 0, 1);
	after_call();
}

FUNCTION void walk(unsigned int depth)
{
	std::string path;

	descend(depth, &path);
	after_call();
}

FUNCTION bool less(const std::string &a, const std::string &b)
{
	work(vary(200));
	return a < b;
}

struct by_less {
	bool operator()(const std::string &a, const std::string &b) const
	{
		return less(a, b);
	}
};

FUNCTION void sort(void)
{
	std::map<std::string, unsigned long, by_less> map;
	std::vector<std::string> names;

	for (int i = 0; i < 30; i++)
		names.push_back(std::to_string(vary(1000000)));
	std::sort(names.begin(), names.end(), by_less());
	for (auto &name : names)
		map[name]++;
}

FUNCTION void fill(char *array, unsigned long size)
{
	work(vary(20000));
	memset(array, 1, size);
	after_call();
}

FUNCTION void table(unsigned long size)
{
	char *array = static_cast<char *>(alloca(size));

	fill(array, size);
	asm volatile("" : : "r" (array) : "memory");
	work(vary(20000));
	after_call();
}

FUNCTION void throws(unsigned int depth)
{
	std::string name(depth + 20, 'x');

	if (!depth)
		throw name;
	throws(depth - 1);
	asm volatile("" : : "r" (name.data()) : "memory");
}

FUNCTION void catches(void)
{
	try {
		throws(5);
	} catch (std::string &name) {
		work(vary(50000) + name.size());
	}
	after_call();
}

FUNCTION void lambda(const std::string &name)
{
	work(vary(40000) + name.size());
	after_call();
}

FUNCTION void calls(void)
{
	std::string name("a name that is too long to be in the object");
	std::function<void(int)> call = [&](int more) {
		if (more)
			call(more - 1);
		else
			lambda(name);
		after_call();
	};

	call(3);
	after_call();
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 200;

	while (rounds--) {
		walk(vary(10));
		sort();
		table(vary(2000));
		catches();
		calls();
	}
	return 0;
}
