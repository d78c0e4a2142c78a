/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bare-metal tests: from the PVH entry (32-bit, paging off) to C in long mode,
 * and the few routines that C cannot express.
 */

#define KERNEL_CS	0x08
#define KERNEL_DS	0x10
#define USER_DS		0x1b	/* SYSRET's order: SS, then CS */
#define USER_CS		0x23

	.section .note, "a", @note
	.long	4, 8, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	start32

	.section .text.start, "ax"
	.code32
	.globl	start32
start32:
	cld
	movl	%ebx, %edi			/* hvm_start_info, first argument */
	/* 4 GiB, mapped one to one in 1 GiB pages, open to user mode */
	movl	$pdpt + 7, pml4
	movl	$0x00000087, pdpt
	movl	$0x40000087, pdpt + 8
	movl	$0x80000087, pdpt + 16
	movl	$0xc0000087, pdpt + 24
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$0x40620, %eax			/* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx		/* EFER: LME, SCE */
	rdmsr
	orl	$0x101, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax
	movl	%eax, %cr0
	lgdt	gdt_desc
	ljmp	$KERNEL_CS, $start64

	.code64
start64:
	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	leaq	stack_top, %rsp
	movl	$0x28, %eax
	leaq	tss, %rdx			/* fill in the TSS descriptor */
	movw	%dx, gdt + 0x28 + 2
	shrq	$16, %rdx
	movb	%dl, gdt + 0x28 + 4
	movb	%dh, gdt + 0x28 + 7
	ltr	%ax
	movl	%edi, %edi
	call	main
1:	hlt
	jmp	1b

/* secondary CPU: real mode, copied to 0x8000 */
	.section .rodata
	.globl	ap_start, ap_end
	.code16
ap_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	0x8000 + ap_gdt_desc - ap_start
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$0x40620, %eax
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x101, %eax
	wrmsr
	movl	$0x80000001, %eax
	movl	%eax, %cr0
	ljmpl	$KERNEL_CS, $ap64
ap_gdt_desc:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_end:

	.text
	.code64
ap64:
	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	leaq	ap_stack_top, %rsp
	lidt	idt_desc
	call	ap_main
1:	hlt
	jmp	1b

/* one stub per vector: all reach trap() with the same frame */
	.globl	stubs
	.balign	16
stubs:
	.set	vec, 0
	.rept	256
	.balign	16
	.if !((vec >= 10 && vec <= 14) || vec == 8 || vec == 17)
	pushq	$0
	.endif
	pushq	$vec
	jmp	common
	.set	vec, vec + 1
	.endr

common:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rbx
	pushq	%rbp
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, %rdi
	cld
	call	trap
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rbp
	popq	%rbx
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

/* void run_user(void (*fn)(void)): call FN at CPL 3, until its INT 0x80 */
	.globl	run_user, user_done
run_user:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, user_saved_rsp
	pushq	$USER_DS
	pushq	$user_stack_top
	pushq	$2
	pushq	$USER_CS
	pushq	%rdi
	iretq
user_done:
	movl	$KERNEL_DS, %eax
	movl	%eax, %ss
	movq	user_saved_rsp, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

/*
 * void vmrun(struct vmcb *vmcb): with GIF clear before and after.  The VMCB
 * holds the guest's RAX and RSP, guest_regs its other registers.
 */
	.globl	vmrun, vmrun_insn
	.macro	guest_registers op
	\op	%rbx, guest_regs
	\op	%rcx, guest_regs + 8
	\op	%rdx, guest_regs + 16
	\op	%rsi, guest_regs + 24
	\op	%rdi, guest_regs + 32
	\op	%rbp, guest_regs + 40
	\op	%r8, guest_regs + 48
	\op	%r9, guest_regs + 56
	\op	%r10, guest_regs + 64
	\op	%r11, guest_regs + 72
	\op	%r12, guest_regs + 80
	\op	%r13, guest_regs + 88
	\op	%r14, guest_regs + 96
	\op	%r15, guest_regs + 104
	.endm
vmrun:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rdi, %rax
	guest_registers xchgq
vmrun_insn:
	vmrun
	guest_registers xchgq
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

	.data
	.balign	16
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* kernel code */
	.quad	0x00cf93000000ffff	/* kernel data */
	.quad	0x00cff3000000ffff	/* user data */
	.quad	0x00affb000000ffff	/* user code */
	.quad	0x0000890000000067	/* TSS */
	.quad	0
gdt_end:
gdt_desc:
	.word	gdt_end - gdt - 1
	.quad	gdt
	.globl	idt_desc
idt_desc:
	.word	16 * 256 - 1
	.quad	idt
	.balign 16
tss:
	.long	0
	.quad	trap_stack_top		/* RSP0 */
	.fill	92, 1, 0

	.bss
	.balign	4096
pml4:	.skip	4096
pdpt:	.skip	4096
	.globl	idt
idt:	.skip	4096
	.skip	16384
stack_top:
	.skip	8192
trap_stack_top:
	.skip	8192
user_stack_top:
	.skip	8192
ap_stack_top:
user_saved_rsp:
	.skip	8
guest_regs:
	.skip	14 * 8
