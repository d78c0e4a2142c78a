// SPDX-License-Identifier: GPL-2.0
/*
 * The code of a file that a process of a guest has mapped: the addresses of the code in the
 * process, and whether an address in the code can be a return address.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <gelf.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/unaligned.h>
#include <linux/zalloc.h>

#include "guest-code.h"
#include "guest-object.h"
#include "guest-options.h"

#define PAGE_MASK_4K	0xfffULL

static int add_code(struct guest_object *object, const GElf_Phdr *phdr, int fd)
{
	struct guest_code *code;

	code = realloc(object->code, (object->nr_code + 1) * sizeof(*code));
	if (!code)
		return -ENOMEM;
	object->code = code;
	code += object->nr_code++;
	*code = (struct guest_code) {
		.vaddr = phdr->p_vaddr, .offset = phdr->p_offset, .size = phdr->p_filesz,
	};
	return guest_file__read(fd, code->offset, code->size, &code->bytes);
}

/* The encodings of pointers (DW_EH_PE_*) that compilers use for code on x86 */
#define ENC_PCREL_SDATA4	0x1b

/* How the FDEs of a CIE are to be read */
struct fde_format {
	bool is_known;
	bool has_handlers;
};

/* The length of the augmentation data of @letter. @left bytes are left at @data. */
static size_t augmentation_len(char letter, const u8 *data, size_t left)
{
	switch (letter) {
	case 'P':
		/* the encoding of a pointer, and the pointer of 32 or 64 bits */
		return left && *data & 0xf ? 5 : 9;
	case 'L':
	case 'R':
		return 1;
	default:
		return 0;
	}
}

/* P is a personality routine, L a table of handlers, R the encoding of addresses of code. */
static struct fde_format cie_format(const Dwarf_CIE *cie)
{
	struct fde_format format = {};
	const u8 *data = cie->augmentation_data;
	size_t len, left = data ? cie->augmentation_data_size : 0;

	for (const char *letter = cie->augmentation; *letter; letter++) {
		len = augmentation_len(*letter, data, left);
		if (len > left)
			return (struct fde_format){};
		if (*letter == 'R')
			format.is_known = *data == ENC_PCREL_SDATA4;
		if (*letter == 'L')
			format.has_handlers = true;
		data += len;
		left -= len;
	}
	return format;
}

/* In an FDE: start and size of the code; the length of the rest, and the table of handlers */
#define FDE_LEN			(2 * sizeof(u32))
#define FDE_HANDLERS_LEN	(FDE_LEN + 1 + sizeof(u32))

static int add_function(struct guest_object *object, const Dwarf_FDE *fde, u64 vaddr,
			struct fde_format format)
{
	struct guest_function *functions = object->functions;
	const size_t len = fde->end - fde->start;

	if (!format.is_known || len < FDE_LEN)
		return -ENOEXEC;
	/* the array is full at 0, 1, 2, 4, 8... functions */
	if (!(object->nr_functions & (object->nr_functions - 1))) {
		functions = realloc(functions, (2 * object->nr_functions + 1) *
					       sizeof(*functions));
		if (!functions)
			return -ENOMEM;
		object->functions = functions;
	}
	functions[object->nr_functions++] = (struct guest_function) {
		.start = vaddr + (s32)get_unaligned_le32(fde->start),
		.has_handlers = format.has_handlers && len >= FDE_HANDLERS_LEN &&
				fde->start[FDE_LEN] >= sizeof(u32) &&
				get_unaligned_le32(fde->start + FDE_LEN + 1),
	};
	return 0;
}

static int compare_functions(const void *a, const void *b)
{
	const struct guest_function *f = a, *g = b;

	return f->start < g->start ? -1 : f->start > g->start;
}

/* The CIE at @offset of .eh_frame; false if there is none */
static bool read_cie(const u8 *ident, Elf_Data *data, Dwarf_Off offset,
		     struct fde_format *format)
{
	Dwarf_CFI_Entry entry;
	Dwarf_Off next;

	if (dwarf_next_cfi(ident, data, true, offset, &next, &entry) ||
	    entry.CIE_id != DW_CIE_ID_64)
		return false;
	*format = cie_format(&entry.cie);
	return true;
}

/* Read all functions that have CFI. After an error, the list of functions is incomplete. */
static int read_eh_frame(struct guest_object *object, Elf *elf, Elf_Data *data, u64 vaddr)
{
	const u8 *start = data->d_buf, *ident = (const u8 *)elf_getident(elf, NULL);
	Dwarf_Off next, cie = ULLONG_MAX;
	struct fde_format format = {};
	Dwarf_CFI_Entry entry;
	int ret, err;

	for (Dwarf_Off offset = 0; ; offset = next) {
		ret = dwarf_next_cfi(ident, data, true, offset, &next, &entry);
		if (ret)
			return ret < 0 ? -ENOEXEC : 0;
		if (entry.CIE_id == DW_CIE_ID_64)
			continue;
		if (entry.fde.CIE_pointer != cie) {
			cie = entry.fde.CIE_pointer;
			if (!read_cie(ident, data, cie, &format))
				return -ENOEXEC;
		}
		err = add_function(object, &entry.fde, vaddr + (entry.fde.start - start), format);
		if (err)
			return err;
	}
}

static Elf_Scn *find_eh_frame(Elf *elf, GElf_Shdr *shdr)
{
	Elf_Scn *scn = NULL;
	const char *name;
	size_t names;

	if (elf_getshdrstrndx(elf, &names))
		return NULL;
	while ((scn = elf_nextscn(elf, scn))) {
		if (!gelf_getshdr(scn, shdr))
			return NULL;
		name = elf_strptr(elf, names, shdr->sh_name);
		if (name && !strcmp(name, ".eh_frame") && shdr->sh_type != SHT_NOBITS)
			return scn;
	}
	return NULL;
}

/* A file without .eh_frame, or with encodings that are not known, has no functions. */
static void read_functions(struct guest_object *object, Elf *elf)
{
	GElf_Shdr shdr;
	Elf_Scn *scn = find_eh_frame(elf, &shdr);
	Elf_Data *data = scn ? elf_rawdata(scn, NULL) : NULL;

	if (!data || !data->d_buf)
		return;
	if (!read_eh_frame(object, elf, data, shdr.sh_addr) && object->nr_functions) {
		qsort(object->functions, object->nr_functions, sizeof(*object->functions),
		      compare_functions);
		return;
	}
	zfree(&object->functions);
	object->nr_functions = 0;
}

static int read_object(struct guest_object *object, Elf *elf, int fd, u64 file_size)
{
	GElf_Ehdr ehdr;
	GElf_Phdr phdr;
	size_t nr;
	int err;

	if (!elf || !gelf_getehdr(elf, &ehdr) || elf_getphdrnum(elf, &nr))
		return -ENOEXEC;
	if ((ehdr.e_type != ET_EXEC && ehdr.e_type != ET_DYN) ||
	    (ehdr.e_machine != EM_X86_64 && ehdr.e_machine != EM_386))
		return -ENOEXEC;
	object->is_64_bit = ehdr.e_machine == EM_X86_64;
	object->is_position_independent = ehdr.e_type == ET_DYN;

	for (size_t i = 0; i < nr; i++) {
		if (!gelf_getphdr(elf, i, &phdr))
			return -ENOEXEC;
		if (phdr.p_type != PT_LOAD || !(phdr.p_flags & PF_X) || !phdr.p_filesz)
			continue;
		if (phdr.p_offset > file_size || phdr.p_filesz > file_size - phdr.p_offset)
			return -ENOEXEC;
		err = add_code(object, &phdr, fd);
		if (err)
			return err;
	}
	if (!object->nr_code)
		return -ENOEXEC;
	read_functions(object, elf);
	return 0;
}

/* Returns 0, -errno or GUEST_FILE_NOT_REGULAR; -ENOEXEC if the file has no code for x86. */
int guest_object__open(struct guest_object *object, const char *path)
{
	struct stat st;
	Elf *elf;
	int fd, err;

	err = guest_file__open(path, &fd);
	if (err)
		return err;
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	err = fstat(fd, &st) ? -errno : read_object(object, elf, fd, st.st_size);
	elf_end(elf);
	close(fd);
	return err;
}

/* The segment of a mapping of @len bytes at @pgoff, which can be a part of the segment */
static const struct guest_code *code_of_mapping(const struct guest_object *object, u64 len,
						u64 pgoff)
{
	const struct guest_code *code;
	u64 first, end;

	for (code = object->code; code < object->code + object->nr_code; code++) {
		first = code->offset & ~PAGE_MASK_4K;
		end = (code->offset + code->size + PAGE_MASK_4K) & ~PAGE_MASK_4K;
		if (pgoff >= first && pgoff < end && len <= end - pgoff)
			return code;
	}
	return NULL;
}

/* Find the bias of a mapping. Returns -EINVAL if the mapping cannot be one of this file. */
int guest_object__find_bias(struct guest_object *object, u64 start, u64 end, u64 pgoff)
{
	const struct guest_code *code = code_of_mapping(object, end - start, pgoff);
	u64 bias;

	if (!code)
		return -EINVAL;
	bias = start - (code->vaddr - code->offset + pgoff);
	if (object->has_bias ? bias != object->bias :
			       bias && !object->is_position_independent)
		return -EINVAL;
	object->bias = bias;
	object->has_bias = true;
	return 0;
}

void guest_object__close(struct guest_object *object)
{
	for (unsigned int i = 0; i < object->nr_code; i++)
		free(object->code[i].bytes);
	zfree(&object->code);
	zfree(&object->functions);
	object->nr_code = 0;
	object->nr_functions = 0;
}

/* The code at @addr of the process, and in @size the length of the segment before @addr */
static const u8 *code_before(const struct guest_object *object, u64 addr, u64 *size)
{
	const struct guest_code *code;
	u64 vaddr = addr - object->bias;

	for (code = object->code; code < object->code + object->nr_code; code++) {
		if (vaddr > code->vaddr && vaddr - code->vaddr <= code->size) {
			*size = vaddr - code->vaddr;
			return code->bytes + *size;
		}
	}
	return NULL;
}

/* The last function that begins at or before @vaddr, and its end */
static const struct guest_function *find_function_at(const struct guest_object *object,
						     u64 vaddr, u64 *end)
{
	unsigned int low = 0, high = object->nr_functions, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (object->functions[mid].start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	*end = low < object->nr_functions ? object->functions[low].start : ULLONG_MAX;
	return low ? &object->functions[low - 1] : NULL;
}

/* Decode a relative jump, with a condition or not. Returns the bits of its offset, or 0. */
static unsigned int jump_target(const u8 *code, u64 size, u64 vaddr, u64 *target)
{
	if (size >= 2 && (code[0] == 0xeb || (code[0] & 0xf0) == 0x70)) {
		*target = vaddr + 2 + (s8)code[1];
		return 8;
	}
	if (size >= 5 && code[0] == 0xe9) {
		*target = vaddr + 5 + (s32)get_unaligned_le32(code + 1);
		return 32;
	}
	if (size >= 6 && code[0] == 0x0f && (code[1] & 0xf0) == 0x80) {
		*target = vaddr + 6 + (s32)get_unaligned_le32(code + 2);
		return 32;
	}
	return 0;
}

/*
 * 0xff is often the last byte of a negative number, before an instruction that begins with
 * a prefix (0x64, 0x65, 0x66). Compilers do not use the jumps that 0xff and these bytes
 * encode.
 */
static bool is_indirect_jump(const u8 *code, u64 size)
{
	return size >= 2 && code[0] == 0xff && ((code[1] >> 3) & 7) == 4 &&
	       code[1] != 0x64 && code[1] != 0x65 && code[1] != 0x66;
}

static bool is_code(const struct guest_object *object, u64 vaddr)
{
	const struct guest_code *code;

	for (code = object->code; code < object->code + object->nr_code; code++)
		if (vaddr >= code->vaddr && vaddr - code->vaddr < code->size)
			return true;
	return false;
}

/* Any two bytes may look like a short jump: one to another function must lead to the start. */
static bool jumps_to_code(const struct guest_object *object, u64 vaddr, unsigned int bits)
{
	u64 end;
	const struct guest_function *function = find_function_at(object, vaddr, &end);

	return is_code(object, vaddr) &&
	       (bits == 32 || (function && function->start == vaddr));
}

/*
 * Can a jump leave the function from @start to @end? The jump may be a tail call, lead to a
 * seldom used part of the function, or be an entry of a PLT. The code at its target may
 * jump on.
 */
static bool leaves_by_jump(const struct guest_object *object, u64 start, u64 end)
{
	const struct guest_code *segment;
	u64 size, target, vaddr = start;
	unsigned int bits;
	const u8 *code;

	for (segment = object->code; segment < object->code + object->nr_code; segment++) {
		if (start < segment->vaddr || start - segment->vaddr >= segment->size)
			continue;
		code = segment->bytes + (start - segment->vaddr);
		size = min(end - start, segment->size - (start - segment->vaddr));
		for (; size; size--, code++, vaddr++) {
			if (is_indirect_jump(code, size))
				return true;
			bits = jump_target(code, size, vaddr, &target);
			if (bits && (target < start || target >= end) &&
			    jumps_to_code(object, target, bits))
				return true;
		}
		return false;
	}
	return true;
}

/*
 * Can a direct call of @target have led to the code at @below, in the same file? Yes if
 * @below is in the called function. Otherwise a jump must leave the called function, unless
 * both functions have handlers of exceptions: handlers can be apart from their function,
 * and no jump leads to them.
 */
static bool may_lead_to(const struct guest_object *object, u64 target, u64 below)
{
	u64 called_end, below_end;
	const struct guest_function *called = find_function_at(object, target, &called_end);
	const struct guest_function *function = find_function_at(object, below, &below_end);

	if (!called || !function || called == function)
		return true;
	if (called->has_handlers && function->has_handlers)
		return true;
	return leaves_by_jump(object, called->start, called_end);
}

/*
 * Can @addr be a return address? @below is an address in the function that returns to
 * @addr, or 0 if this function is in another file.
 */
bool guest_object__is_behind_call(const struct guest_object *object, u64 addr, u64 below)
{
	u64 size, target;
	const u8 *code = code_before(object, addr, &size);

	if (!code)
		return false;
	if (!is_direct_call_before(code, size))
		return is_indirect_call_before(code, size);
	target = call_target(code, addr - object->bias);
	return !below || may_lead_to(object, target, below - object->bias);
}
