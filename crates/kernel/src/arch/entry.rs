//! Where a small program begins: before the C library and Rust's own start, which cost more than what follows for a process
//! that is about to execute itself again.
//!
//! A program that is linked with `--entry=sextant_entry` first looks whether one of its arguments is `create`, `exec` or
//! `run`, and whether its file could be written by who gets at it through `/proc/PID/exe` (CVE-2019-5736). If both, it
//! executes itself from a detached read-only clone of the mount its file is on, as
//! [`own_program`](crate::mount::own_program) and [`exec_fd`](crate::process::exec_fd) would, in four system calls. With
//! any other argument, and when any of them fails, it begins as it would have anyway. So nobody may rely on this: a
//! program whose file must be out of reach checks, and does the same with words for what went wrong.
//!
//! Nothing is relocated yet, and there is no thread-local memory, so it is written in assembler: for x86-64. Elsewhere
//! there is no such symbol, and whoever links asks for it on x86-64 only.

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.sextant_entry, \"ax\", @progbits",
    ".globl sextant_entry",
    ".type sextant_entry, @function",
    "sextant_entry:",
    // As a process begins: the count of arguments, their pointers, 0, the environment's, 0. rdx belongs to _start.
    "mov r12, rdx",
    "mov r13, rsp",
    "lea r14, [rsp + 8]",
    "mov rbx, r14",
    // Each argument. There is more of the stack behind the last: reading a few bytes too far is no matter.
    "2:",
    "add rbx, 8",
    "mov rsi, [rbx]",
    "test rsi, rsi",
    "jz 9f",
    "mov eax, [rsi]",
    "cmp eax, 0x006e7572", // "run\0"
    "je 3f",
    "cmp eax, 0x63657865", // "exec"
    "jne 4f",
    "cmp byte ptr [rsi + 4], 0",
    "je 3f",
    "4:",
    "cmp eax, 0x61657263", // "crea"
    "jne 2b",
    "cmp word ptr [rsi + 4], 0x6574", // "te"
    "jne 2b",
    "cmp byte ptr [rsi + 6], 0",
    "jne 2b",
    // A struct statfs takes 120 bytes and has its flags at 80; of them 1 is ST_RDONLY.
    "3:",
    "sub rsp, 128",
    "mov eax, {statfs}",
    "lea rdi, [rip + 7f]",
    "mov rsi, rsp",
    "syscall",
    "test rax, rax",
    "jnz 9f",
    "test byte ptr [rsp + 80], 1",
    "jnz 9f",
    "mov eax, {open_tree}",
    "mov rdi, {at_fdcwd}",
    "lea rsi, [rip + 7f]",
    "mov edx, {open_tree_flags}",
    "syscall",
    "test rax, rax",
    "js 9f",
    "mov rbp, rax",
    // A struct mount_attr: what to set, what to clear, propagation, a user namespace.
    "mov qword ptr [rsp], {rdonly}",
    "mov qword ptr [rsp + 8], 0",
    "mov qword ptr [rsp + 16], 0",
    "mov qword ptr [rsp + 24], 0",
    "mov eax, {mount_setattr}",
    "mov rdi, rbp",
    "lea rsi, [rip + 8f]",
    "mov edx, {at_empty_path}",
    "mov r10, rsp",
    "mov r8d, 32",
    "syscall",
    "test rax, rax",
    "jnz 5f",
    "mov eax, {execveat}",
    "mov rdi, rbp",
    "lea rsi, [rip + 8f]",
    "mov rdx, r14",
    "mov r10, [r13]",
    "lea r10, [r14 + r10 * 8 + 8]",
    "mov r8d, {at_empty_path}",
    "syscall",
    // It was in vain: the descriptor must not be taken for one that somebody handed over.
    "5:",
    "mov eax, {close}",
    "mov rdi, rbp",
    "syscall",
    "9:",
    "mov rsp, r13",
    "mov rdx, r12",
    "xor ebp, ebp",
    "jmp _start",
    "7:",
    ".asciz \"/proc/self/exe\"",
    "8:",
    ".byte 0",
    ".size sextant_entry, . - sextant_entry",
    ".popsection",
    statfs = const libc::SYS_statfs,
    open_tree = const libc::SYS_open_tree,
    open_tree_flags = const OPEN_TREE_CLONE | libc::O_CLOEXEC,
    mount_setattr = const libc::SYS_mount_setattr,
    rdonly = const libc::MOUNT_ATTR_RDONLY,
    execveat = const libc::SYS_execveat,
    close = const libc::SYS_close,
    at_fdcwd = const libc::AT_FDCWD,
    at_empty_path = const libc::AT_EMPTY_PATH,
);

#[cfg(target_arch = "x86_64")]
const OPEN_TREE_CLONE: i32 = 1;
