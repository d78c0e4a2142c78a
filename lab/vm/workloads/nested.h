/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls through templates and virtual functions: nested<3>::enter() to nested<0>::enter(),
 * which calls spin(). Before it includes this file, a program defines spin(), FUNCTION (the
 * attributes of functions) and after_call() (no call before it is a tail call).
 */
#ifndef NESTED_H
#define NESTED_H

struct level {
	virtual void enter(unsigned long n) = 0;
	virtual ~level() = default;
};

template <int depth> struct nested : level {
	level *inner = new nested<depth - 1>;

	FUNCTION void enter(unsigned long n) override
	{
		inner->enter(n);
		after_call();
	}
};

template <> struct nested<0> : level {
	FUNCTION void enter(unsigned long n) override
	{
		spin(n);
		after_call();
	}
};

#endif
