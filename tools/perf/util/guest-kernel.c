// SPDX-License-Identifier: GPL-2.0
/*
 * The unwind tables of a guest's kernel, from its vmlinux or vmlinuz and from the files of
 * its modules, for the addresses in a copy of its /proc/kallsyms.
 *
 * The image has the addresses of the tables in the image, kallsyms has their addresses in
 * the guest. The two belong together only if the layout is the same.
 *
 * The addresses of a module's sections follow from its symbols. All symbols of a section
 * must give the same address.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include <linux/zalloc.h>
#include <symbol/kallsyms.h>

#include "debug.h"
#include "guest-kernel.h"
#include "guest-unpack.h"
#include "util.h"

#ifdef HAVE_LIBELF_SUPPORT
#include <gelf.h>
#include <libelf.h>

#ifndef R_X86_64_PC32
#define R_X86_64_PC32	2
#endif

/* No thunk is larger. */
#define MAX_THUNK_SIZE	64

/* A thunk of indirect calls or of returns */
struct thunk {
	u64 start;
	u64 end;
};

/* A symbol of a module */
struct module_symbol {
	u64 addr;
	char *name;
	const char *module;
};

/* A section of code of a module, in the guest */
struct module_text {
	u64 start;
	u64 end;
	struct orc_table *table;
};

struct module {
	char *name;
	bool tried;
	struct orc_table table;
};

struct guest_kernel {
	char *moddir;
	char release[80];	/* empty if it is not known */

	/* the kernel itself; the addresses in the table are those in the image */
	struct orc_table table;
	u64 start;
	u64 end;
	u64 shift;

	/* from kallsyms; thunks and symbols are sorted by address */
	u64 text;
	u64 start_ip, stop_ip;
	u64 start_orc, stop_orc;
	struct thunk *thunks;
	size_t nr_thunks;
	struct module_symbol *symbols;
	size_t nr_symbols;
	struct module **modules;
	size_t nr_modules;

	struct module_text *texts;
	size_t nr_texts;
};

struct elf_file {
	struct guest_image_data image;
	Elf *elf;
	size_t shstrndx;
};

/* ---- ELF */

static int fail(char *msg, size_t msg_size, const char *why)
{
	snprintf(msg, msg_size, "%s", why);
	return -EINVAL;
}

static void elf_file__close(struct elf_file *file)
{
	elf_end(file->elf);
	zfree(&file->image.data);
}

static int elf_file__open(struct elf_file *file, const char *path, int type, char *msg,
			  size_t msg_size)
{
	GElf_Ehdr ehdr;
	int err = guest_unpack(path, &file->image, msg, msg_size);

	if (err)
		return err;

	elf_version(EV_CURRENT);
	file->elf = elf_memory(file->image.data, file->image.size);
	if (!file->elf || !gelf_getehdr(file->elf, &ehdr) || ehdr.e_machine != EM_X86_64 ||
	    ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_type != type ||
	    elf_getshdrstrndx(file->elf, &file->shstrndx)) {
		elf_file__close(file);
		return fail(msg, msg_size, type == ET_REL ? "is no module of an x86-64 kernel" :
							     "is no x86-64 kernel");
	}
	return 0;
}

/* Returns the data, or NULL if the file has no such section, or no data of the section. */
static Elf_Data *elf_file__section(struct elf_file *file, const char *name, GElf_Shdr *shdr)
{
	Elf_Scn *scn = NULL;
	const char *found;

	while ((scn = elf_nextscn(file->elf, scn))) {
		if (!gelf_getshdr(scn, shdr))
			continue;
		found = elf_strptr(file->elf, file->shstrndx, shdr->sh_name);
		if (found && !strcmp(found, name))
			return shdr->sh_type == SHT_NOBITS ? NULL : elf_getdata(scn, NULL);
	}
	return NULL;
}

/* The release of a kernel, from the header of the vmlinuz or the banner in the image */
static const char *elf_file__release(struct elf_file *file)
{
	static const char banner[] = "Linux version ";
	struct guest_image_data *image = &file->image;
	const char *found, *version;

	if (*image->release)
		return image->release;
	found = memmem(image->data, image->size, banner, sizeof(banner) - 1);
	if (!found)
		return NULL;
	version = found + sizeof(banner) - 1;
	snprintf(image->release, sizeof(image->release), "%.*s",
		 (int)strnlen(version, image->data + image->size - (const void *)version),
		 version);
	image->release[strcspn(image->release, " ")] = 0;
	return image->release;
}

static int elf_file__orc_format(struct elf_file *file, const char *release)
{
	GElf_Shdr shdr;
	Elf_Data *header = elf_file__section(file, ".orc_header", &shdr);

	return orc_format__detect(header ? header->d_buf : NULL, header ? header->d_size : 0,
				  release);
}

static int orc_table__alloc(struct orc_table *table, size_t nr)
{
	table->nr = nr;
	table->entries = calloc(nr ?: 1, sizeof(*table->entries));
	return table->entries ? 0 : -ENOMEM;
}

static s32 le32_at(const u8 *p)
{
	return (s32)(p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24);
}

/* ---- the kernel's own tables */

struct orc_sections {
	GElf_Shdr text;
	GElf_Shdr ip_shdr;
	GElf_Shdr orc_shdr;
	Elf_Data *ip;
	Elf_Data *orc;
};

static int find_orc_sections(struct elf_file *file, struct orc_sections *s, char *msg,
			     size_t msg_size)
{
	if (!elf_file__section(file, ".text", &s->text))
		return fail(msg, msg_size, "has no .text");
	s->ip = elf_file__section(file, ".orc_unwind_ip", &s->ip_shdr);
	s->orc = elf_file__section(file, ".orc_unwind", &s->orc_shdr);
	if (!s->ip || !s->orc)
		return fail(msg, msg_size, "has no ORC tables (CONFIG_UNWINDER_ORC)");
	if (s->ip->d_size % 4 || s->orc->d_size % ORC_RAW_SIZE || !s->ip->d_size ||
	    s->ip->d_size / 4 != s->orc->d_size / ORC_RAW_SIZE)
		return fail(msg, msg_size, "has damaged ORC tables");
	return 0;
}

static bool has_same_layout(const struct guest_kernel *kernel, const struct orc_sections *s)
{
	const u64 text = s->text.sh_addr - kernel->text;

	return kernel->start_ip + text == s->ip_shdr.sh_addr &&
	       kernel->stop_ip + text == s->ip_shdr.sh_addr + s->ip_shdr.sh_size &&
	       kernel->start_orc + text == s->orc_shdr.sh_addr &&
	       kernel->stop_orc + text == s->orc_shdr.sh_addr + s->orc_shdr.sh_size;
}

static int read_kernel_table(struct guest_kernel *kernel, const struct orc_sections *s,
			     enum orc_format format)
{
	const u8 *ip = s->ip->d_buf, *orc = s->orc->d_buf;
	struct orc_entry *entry;
	size_t i;

	if (orc_table__alloc(&kernel->table, s->ip->d_size / 4))
		return -ENOMEM;
	for (i = 0; i < kernel->table.nr; i++) {
		entry = &kernel->table.entries[i];
		orc_entry__decode(entry, orc + i * ORC_RAW_SIZE, format);
		entry->ip = s->ip_shdr.sh_addr + i * 4 + le32_at(ip + i * 4);
	}
	orc_table__sort(&kernel->table);

	/* The last entry is at the end of the last code. */
	kernel->shift = kernel->text - s->text.sh_addr;
	kernel->start = kernel->table.entries[0].ip + kernel->shift;
	kernel->end = kernel->table.entries[kernel->table.nr - 1].ip + kernel->shift;
	return 0;
}

static int read_vmlinuz(struct guest_kernel *kernel, const char *path, const char *kallsyms,
			char *msg, size_t msg_size)
{
	struct orc_sections sections;
	struct elf_file file;
	const char *release;
	int format, err;

	err = elf_file__open(&file, path, ET_EXEC, msg, msg_size);
	if (err)
		return err;

	release = elf_file__release(&file);
	err = find_orc_sections(&file, &sections, msg, msg_size);
	if (err)
		goto out;
	format = elf_file__orc_format(&file, release);
	if (format < 0) {
		err = fail(msg, msg_size, "has ORC tables of a format that is not known");
	} else if (!has_same_layout(kernel, &sections)) {
		snprintf(msg, msg_size, "(Linux %s) is not the kernel that %s is of",
			 release ?: "of unknown version", kallsyms);
		err = -EINVAL;
	} else {
		err = read_kernel_table(kernel, &sections, format);
		if (release)
			snprintf(kernel->release, sizeof(kernel->release), "%s", release);
	}
out:
	elf_file__close(&file);
	return err;
}

/* ---- kallsyms */

static void *add_one(void *array, size_t *nr, size_t size)
{
	void *new;

	if (*nr & (*nr + 1))	/* there is room up to the next power of 2 */
		new = array;
	else
		new = realloc(array, (2 * *nr + 1) * size);
	if (new)
		(*nr)++;
	return new;
}

static struct module *find_module(struct guest_kernel *kernel, const char *name)
{
	struct module **modules, *module;
	size_t i;

	/* mostly the last module: kallsyms has the symbols of a module in one piece */
	for (i = kernel->nr_modules; i > 0; i--)
		if (!strcmp(kernel->modules[i - 1]->name, name))
			return kernel->modules[i - 1];

	module = zalloc(sizeof(*module));
	if (!module)
		return NULL;
	module->name = strdup(name);
	modules = add_one(kernel->modules, &kernel->nr_modules, sizeof(*modules));
	if (!module->name || !modules) {
		free(module->name);
		free(module);
		return NULL;
	}
	kernel->modules = modules;
	modules[kernel->nr_modules - 1] = module;
	return module;
}

/* "name\t[module]" */
static int add_module_symbol(struct guest_kernel *kernel, const char *name, const char *tab,
			     u64 addr)
{
	struct module_symbol *symbols;
	struct module *module;
	char buf[128];

	if (sscanf(tab, "\t[%127[^]]", buf) != 1 || !strcmp(buf, "bpf") ||
	    strstarts(buf, "__builtin__"))
		return 0;
	module = find_module(kernel, buf);
	symbols = module ? add_one(kernel->symbols, &kernel->nr_symbols, sizeof(*symbols)) : NULL;
	if (!symbols)
		return -ENOMEM;
	kernel->symbols = symbols;
	symbols[kernel->nr_symbols - 1] = (struct module_symbol) {
		.addr = addr, .name = strndup(name, tab - name), .module = module->name,
	};
	return symbols[kernel->nr_symbols - 1].name ? 0 : -ENOMEM;
}

static bool is_thunk_name(const char *name)
{
	return strstarts(name, "__x86_indirect_") || strstr(name, "return_thunk") ||
	       strstr(name, "_safe_ret");
}

static int add_thunk(struct guest_kernel *kernel, u64 addr)
{
	struct thunk *thunks = add_one(kernel->thunks, &kernel->nr_thunks, sizeof(*thunks));

	if (!thunks)
		return -ENOMEM;
	kernel->thunks = thunks;
	thunks[kernel->nr_thunks - 1] = (struct thunk) { addr, addr + MAX_THUNK_SIZE };
	return 0;
}

/* The kernel's own symbols are sorted: a thunk ends at the next symbol. */
static void end_thunks(struct guest_kernel *kernel, u64 addr)
{
	struct thunk *thunk;
	size_t i;

	for (i = kernel->nr_thunks; i > 0; i--) {
		thunk = &kernel->thunks[i - 1];
		if (thunk->start > addr || thunk->end <= addr)
			break;
		if (thunk->start < addr)
			thunk->end = addr;
	}
}

static int process_symbol(void *arg, const char *name, char type, u64 addr)
{
	struct guest_kernel *kernel = arg;
	const struct {
		const char *name;
		u64 *addr;
	} wanted[] = {
		{ "_text", &kernel->text },
		{ "__start_orc_unwind_ip", &kernel->start_ip },
		{ "__stop_orc_unwind_ip", &kernel->stop_ip },
		{ "__start_orc_unwind", &kernel->start_orc },
		{ "__stop_orc_unwind", &kernel->stop_orc },
	};
	const char *tab = strchr(name, '\t');
	size_t i;

	if (tab)
		return strchr("tTwW", type) ? add_module_symbol(kernel, name, tab, addr) : 0;
	for (i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!strcmp(name, wanted[i].name))
			*wanted[i].addr = addr;
	end_thunks(kernel, addr);
	return is_thunk_name(name) ? add_thunk(kernel, addr) : 0;
}

static int compare_addresses(const void *a, const void *b)
{
	const struct module_symbol *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int read_kallsyms(struct guest_kernel *kernel, const char *path, char *msg,
			 size_t msg_size)
{
	if (kallsyms__parse(path, kernel, process_symbol)) {
		snprintf(msg, msg_size, "cannot be used: %s cannot be read", path);
		return -EINVAL;
	}
	if (!kernel->text || !kernel->start_ip || !kernel->stop_orc) {
		snprintf(msg, msg_size, "cannot be used: %s is of a kernel without ORC tables",
			 path);
		return -EINVAL;
	}
	qsort(kernel->symbols, kernel->nr_symbols, sizeof(*kernel->symbols),
	      compare_addresses);
	return 0;
}

/* ---- modules */

static bool is_module_file(const char *file, const char *module)
{
	for (; *module; file++, module++)
		if ((*file == '-' ? '_' : *file) != *module)
			return false;
	return !strcmp(file, ".ko") || !strcmp(file, ".ko.xz") || !strcmp(file, ".ko.zst") ||
	       !strcmp(file, ".ko.gz");
}

/* Directories of modules do not nest deeply; links (build, source) are not followed. */
static bool find_module_file(const char *dir, const char *module, char *path, int depth)
{
	char sub[PATH_MAX];
	struct dirent *entry;
	struct stat st;
	bool found = false;
	DIR *d = opendir(dir);

	if (!d)
		return false;
	while (!found && (entry = readdir(d))) {
		if (entry->d_name[0] == '.' ||
		    snprintf(sub, sizeof(sub), "%s/%s", dir, entry->d_name) >= PATH_MAX ||
		    lstat(sub, &st))
			continue;
		if (S_ISDIR(st.st_mode) && depth > 0) {
			found = find_module_file(sub, module, path, depth - 1);
		} else if (is_module_file(entry->d_name, module)) {
			memcpy(path, sub, sizeof(sub));
			found = true;
		}
	}
	closedir(d);
	return found;
}

/* The symbols of one module, by name. */
struct module_names {
	const struct module_symbol **symbols;
	size_t nr;
};

static int compare_names(const void *a, const void *b)
{
	const struct module_symbol *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int module_names__init(struct module_names *names, const struct guest_kernel *kernel,
			      const char *module)
{
	size_t i;

	names->nr = 0;
	names->symbols = calloc(kernel->nr_symbols + 1, sizeof(*names->symbols));
	if (!names->symbols)
		return -ENOMEM;
	for (i = 0; i < kernel->nr_symbols; i++)
		if (kernel->symbols[i].module == module)
			names->symbols[names->nr++] = &kernel->symbols[i];
	qsort(names->symbols, names->nr, sizeof(*names->symbols), compare_names);
	return 0;
}

/* The address of the symbol @name; 0 if the module has no such symbol, or more than one */
static u64 module_names__address(const struct module_names *names, const char *name)
{
	const struct module_symbol key = { .name = (char *)name }, *keyp = &key, **found;
	const struct module_symbol **end = names->symbols + names->nr;

	found = bsearch(&keyp, names->symbols, names->nr, sizeof(keyp), compare_names);
	if (!found || (found > names->symbols && !compare_names(found - 1, &keyp)) ||
	    (found + 1 < end && !compare_names(found + 1, &keyp)))
		return 0;
	return (*found)->addr;
}

struct module_file {
	struct elf_file file;
	Elf_Data *symtab;
	size_t strndx;
	size_t nr_sections;
	u64 *bases;	/* addresses of the sections in the guest; 0 if not known */
};

/* Is this a section of code that stays? kallsyms has no names of other code. */
static bool is_code(struct elf_file *file, size_t section, GElf_Shdr *shdr)
{
	Elf_Scn *scn = elf_getscn(file->elf, section);
	const char *name;

	if (!scn || !gelf_getshdr(scn, shdr) || !(shdr->sh_flags & SHF_EXECINSTR))
		return false;
	name = elf_strptr(file->elf, file->shstrndx, shdr->sh_name);
	return name && !strstarts(name, ".init") && !strstarts(name, ".exit");
}

/* All symbols of a section must give the same address of the section. */
static int find_bases(const struct module_names *names, struct module_file *m)
{
	const char *name;
	GElf_Shdr shdr;
	GElf_Sym sym;
	u64 addr;
	int i;

	for (i = 0; gelf_getsym(m->symtab, i, &sym); i++) {
		if (GELF_ST_TYPE(sym.st_info) != STT_FUNC || sym.st_shndx >= m->nr_sections ||
		    !is_code(&m->file, sym.st_shndx, &shdr))
			continue;
		name = elf_strptr(m->file.elf, m->strndx, sym.st_name);
		addr = name ? module_names__address(names, name) : 0;
		if (!addr)
			continue;
		if (m->bases[sym.st_shndx] && m->bases[sym.st_shndx] != addr - sym.st_value)
			return -EINVAL;
		m->bases[sym.st_shndx] = addr - sym.st_value;
	}
	return 0;
}

static int read_module_table(struct module *module, struct module_file *m, const char *release)
{
	int format = elf_file__orc_format(&m->file, release);
	GElf_Shdr rela_shdr, orc_shdr;
	Elf_Data *rela = elf_file__section(&m->file, ".rela.orc_unwind_ip", &rela_shdr);
	Elf_Data *orc = elf_file__section(&m->file, ".orc_unwind", &orc_shdr);
	struct orc_entry *entry;
	size_t nr = 0;
	GElf_Rela r;
	GElf_Sym sym;
	int i;

	if (format < 0 || !rela || !orc || !rela_shdr.sh_entsize ||
	    orc_table__alloc(&module->table, rela_shdr.sh_size / rela_shdr.sh_entsize))
		return -EINVAL;

	for (i = 0; (size_t)i < module->table.nr && gelf_getrela(rela, i, &r); i++) {
		if (GELF_R_TYPE(r.r_info) != R_X86_64_PC32 ||
		    r.r_offset / 4 >= orc->d_size / ORC_RAW_SIZE ||
		    !gelf_getsym(m->symtab, GELF_R_SYM(r.r_info), &sym))
			return -EINVAL;
		if (sym.st_shndx >= m->nr_sections || !m->bases[sym.st_shndx])
			continue;
		entry = &module->table.entries[nr++];
		orc_entry__decode(entry, orc->d_buf + r.r_offset / 4 * ORC_RAW_SIZE, format);
		entry->ip = m->bases[sym.st_shndx] + sym.st_value + r.r_addend;
	}
	module->table.nr = nr;
	orc_table__sort(&module->table);
	return 0;
}

static int add_module_texts(struct guest_kernel *kernel, struct module *module,
			    struct module_file *m)
{
	struct module_text *texts;
	GElf_Shdr shdr;
	size_t i;

	for (i = 0; i < m->nr_sections; i++) {
		if (!m->bases[i] || !is_code(&m->file, i, &shdr))
			continue;
		texts = add_one(kernel->texts, &kernel->nr_texts, sizeof(*texts));
		if (!texts)
			return -ENOMEM;
		kernel->texts = texts;
		texts[kernel->nr_texts - 1] = (struct module_text) {
			.start = m->bases[i], .end = m->bases[i] + shdr.sh_size,
			.table = &module->table,
		};
	}
	return 0;
}

static int read_module_file(struct guest_kernel *kernel, struct module *module,
			    struct module_file *m, const char *release)
{
	struct module_names names;
	Elf_Scn *scn = NULL;
	GElf_Shdr shdr;
	int err;

	while ((scn = elf_nextscn(m->file.elf, scn))) {
		if (gelf_getshdr(scn, &shdr) && shdr.sh_type == SHT_SYMTAB) {
			m->symtab = elf_getdata(scn, NULL);
			m->strndx = shdr.sh_link;
		}
	}
	if (!m->symtab || elf_getshdrnum(m->file.elf, &m->nr_sections))
		return -EINVAL;
	m->bases = calloc(m->nr_sections + 1, sizeof(*m->bases));
	if (!m->bases)
		return -ENOMEM;
	if (module_names__init(&names, kernel, module->name)) {
		free(m->bases);
		return -ENOMEM;
	}
	err = find_bases(&names, m) ?:
	      read_module_table(module, m, release) ?:
	      add_module_texts(kernel, module, m);
	free(names.symbols);
	free(m->bases);
	return err;
}

/* A module's "vermagic" begins with the release of the kernel that the module is for. */
static const char *module_release(struct elf_file *file, char *buf, size_t size)
{
	GElf_Shdr shdr;
	Elf_Data *modinfo = elf_file__section(file, ".modinfo", &shdr);
	const char *found, *end;

	found = modinfo ? memmem(modinfo->d_buf, modinfo->d_size, "vermagic=", 9) : NULL;
	if (!found)
		return NULL;
	found += 9;
	end = (const char *)modinfo->d_buf + modinfo->d_size;
	snprintf(buf, size, "%.*s", (int)strnlen(found, end - found), found);
	return buf;
}

/* Are these releases the same, up to the first space? */
static bool is_same_release(const char *a, const char *b)
{
	size_t size = strcspn(a, " ");

	return size == strcspn(b, " ") && !strncmp(a, b, size);
}

static void read_module(struct guest_kernel *kernel, struct module *module)
{
	char path[PATH_MAX], msg[256], buf[64];
	struct module_file m = {};
	const char *release;

	module->tried = true;
	if (!kernel->moddir || !find_module_file(kernel->moddir, module->name, path, 16)) {
		pr_debug("guest: no file of module %s\n", module->name);
		return;
	}
	if (elf_file__open(&m.file, path, ET_REL, msg, sizeof(msg))) {
		pr_warning("--guestmoddir: %s %s\n", path, msg);
		return;
	}
	release = module_release(&m.file, buf, sizeof(buf));
	if (release && *kernel->release && !is_same_release(release, kernel->release))
		pr_warning("--guestmoddir: %s is a module of Linux %.*s, the guest's kernel is %s\n",
			   path, (int)strcspn(release, " "), release, kernel->release);
	else if (read_module_file(kernel, module, &m, release))
		pr_warning("--guestmoddir: %s is not the module that the guest has loaded\n",
			   path);
	elf_file__close(&m.file);
}

/* Modules are below the fixmap, see Documentation/arch/x86/x86_64/mm.rst. */
#define MODULES_END	0xffffffffff000000ULL

/* The module of the last symbol at or below @ip */
static struct module *module_at(struct guest_kernel *kernel, u64 ip)
{
	size_t low = 0, high = kernel->nr_symbols, mid;

	if (ip >= MODULES_END)
		return NULL;
	while (low < high) {
		mid = low + (high - low) / 2;
		if (kernel->symbols[mid].addr <= ip)
			low = mid + 1;
		else
			high = mid;
	}
	return low ? find_module(kernel, kernel->symbols[low - 1].module) : NULL;
}

static struct module_text *find_text(struct guest_kernel *kernel, u64 ip)
{
	size_t i;

	for (i = 0; i < kernel->nr_texts; i++)
		if (ip >= kernel->texts[i].start && ip < kernel->texts[i].end)
			return &kernel->texts[i];
	return NULL;
}

/* The file of a module is read when an address in the module is first looked up. */
static struct module_text *find_module_text(struct guest_kernel *kernel, u64 ip)
{
	struct module_text *text = find_text(kernel, ip);
	struct module *module;

	if (text)
		return text;
	module = module_at(kernel, ip);
	if (!module || module->tried)
		return NULL;
	read_module(kernel, module);
	return find_text(kernel, ip);
}

const struct orc_entry *guest_kernel__find(struct guest_kernel *kernel, u64 ip)
{
	struct module_text *text;

	if (ip >= kernel->start && ip < kernel->end)
		return orc_table__find(&kernel->table, ip - kernel->shift);
	text = find_module_text(kernel, ip);
	return text ? orc_table__find(text->table, ip) : NULL;
}

/* Is @ip in the code of the kernel, or above the first symbol of a module? */
bool guest_kernel__has_text(struct guest_kernel *kernel, u64 ip)
{
	return (ip >= kernel->start && ip < kernel->end) || module_at(kernel, ip);
}

static const struct orc_entry *ops_find(void *arg, u64 ip)
{
	return guest_kernel__find(arg, ip);
}

static bool ops_is_text(void *arg, u64 ip)
{
	return guest_kernel__has_text(arg, ip);
}

static bool ops_is_thunk(void *arg, u64 ip)
{
	struct guest_kernel *kernel = arg;
	size_t i;

	for (i = 0; i < kernel->nr_thunks; i++)
		if (ip >= kernel->thunks[i].start && ip < kernel->thunks[i].end)
			return true;
	return false;
}

const struct orc_kernel_ops guest_kernel_ops = {
	.find		= ops_find,
	.is_text	= ops_is_text,
	.is_thunk	= ops_is_thunk,
};

void guest_kernel__delete(struct guest_kernel *kernel)
{
	size_t i;

	if (!kernel)
		return;
	for (i = 0; i < kernel->nr_symbols; i++)
		free(kernel->symbols[i].name);
	for (i = 0; i < kernel->nr_modules; i++) {
		free(kernel->modules[i]->table.entries);
		free(kernel->modules[i]->name);
		free(kernel->modules[i]);
	}
	free(kernel->table.entries);
	free(kernel->thunks);
	free(kernel->symbols);
	free(kernel->modules);
	free(kernel->texts);
	free(kernel->moddir);
	free(kernel);
}

/* Returns NULL with the reason in @msg, to be read behind the name of the vmlinuz. */
struct guest_kernel *guest_kernel__new(const char *vmlinuz, const char *kallsyms,
				       const char *moddir, char *msg, size_t msg_size)
{
	struct guest_kernel *kernel = zalloc(sizeof(*kernel));

	snprintf(msg, msg_size, "cannot be read: no memory");
	if (!kernel)
		return NULL;
	kernel->moddir = moddir ? strdup(moddir) : NULL;
	if (read_kallsyms(kernel, kallsyms, msg, msg_size) ||
	    read_vmlinuz(kernel, vmlinuz, kallsyms, msg, msg_size)) {
		guest_kernel__delete(kernel);
		return NULL;
	}
	return kernel;
}

#else /* !HAVE_LIBELF_SUPPORT */

const struct orc_kernel_ops guest_kernel_ops;

struct guest_kernel *guest_kernel__new(const char *vmlinuz __maybe_unused,
				       const char *kallsyms __maybe_unused,
				       const char *moddir __maybe_unused, char *msg,
				       size_t msg_size)
{
	snprintf(msg, msg_size, "cannot be used: this perf is built without libelf");
	return NULL;
}

void guest_kernel__delete(struct guest_kernel *kernel __maybe_unused)
{
}

const struct orc_entry *guest_kernel__find(struct guest_kernel *kernel __maybe_unused,
					   u64 ip __maybe_unused)
{
	return NULL;
}

bool guest_kernel__has_text(struct guest_kernel *kernel __maybe_unused, u64 ip __maybe_unused)
{
	return false;
}
#endif /* HAVE_LIBELF_SUPPORT */
