// What the plugins here use of qemu's interface: Debian does not package qemu-plugin.h, so it is declared as it is in
// qemu 7.2 (version 1).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };

typedef void (*Translated)(qemu_plugin_id_t id, struct qemu_plugin_tb* block);
typedef void (*Called)(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
typedef void (*Accessed)(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void* data);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb* block, size_t index);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn* instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn* instruction);
unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, Translated callback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb* block, enum qemu_plugin_op op, void* counter,
                                              uint64_t addend);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn* instruction, Accessed callback,
                                      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw kinds, void* data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, Called callback);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;
