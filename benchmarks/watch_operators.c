// A plugin for qemu's user emulation that counts, for every operator of an inference, the instructions that a program
// executes, block by block, and the traffic of a model of its caches.
//
//     qemu-aarch64 -plugin ./watch_operators.so,call=173,out=FILE,cache=32768:2,cache=1048576:16 PROGRAM
//
// The program says by a system call that does nothing, of number `call`, which operator runs from here on: its first
// argument is the operator's index, -1 between operators, -2 at the end of an inference (targets/runtime/marks.h).  At
// every end FILE is written anew, so that it tells of the last inference; the caches stay as the one before left them.
//
//     operator INDEX HITS_OF_EACH_LEVEL... FILLS WRITE_BACKS      lines of 64 bytes; fills and write-backs are DRAM's
//     block OPERATOR COUNT INSTRUCTIONS                           how often it ran, and its code in hexadecimals
//
// Caches, the nearest first, BYTES:WAYS each: a line that is read or written is fetched into all of them; the least
// recently used one of a set makes room; what was written goes one level on when it leaves.  Only data, and by the
// program's own addresses.  No prefetching, and a store to a line that is not there fetches it: both as if the core
// knew nothing of what comes.  One thread.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

enum { kLineBits = 6, kMostLevels = 3, kMostOperators = 1024, kBetween = kMostOperators, kMostInstruction = 4 };
static const int64_t kEnd = -2;

// A set's lines in the order of their last use, the latest first.
struct Line {
  uint64_t tag;  // of a line that is there: its number, plus 1
  bool is_dirty;
};

struct Level {
  uint64_t sets;
  uint64_t ways;
  struct Line* lines;
};

struct Traffic {
  uint64_t hits[kMostLevels];
  uint64_t fills;
  uint64_t write_backs;
};

struct Block {
  struct Block* next;
  uint64_t count;
  uint64_t seen;                            // of them, those that belong to operators by now
  uint64_t by_operator[kMostOperators + 1];
  char code[];                              // hexadecimals
};

static int64_t call = -1;
static const char* out;
static struct Level levels[kMostLevels];
static int level_count;
static struct Traffic traffic[kMostOperators + 1];
static struct Block* blocks;
static int current = kBetween;

// Whether the line is in the set; it is the latest one now.  `evicted` is what had to leave, tag 0 for nothing.
static bool touch(struct Level* level, uint64_t line, bool writes, struct Line* evicted) {
  struct Line* const set = level->lines + line % level->sets * level->ways;
  const uint64_t tag = line + 1;
  evicted->tag = 0;
  if (set[0].tag == tag) {
    set[0].is_dirty |= writes;
    return true;
  }
  uint64_t way = 1;
  while (way < level->ways && set[way].tag != tag) ++way;
  const bool hits = way < level->ways;
  if (!hits) *evicted = set[--way];
  const struct Line latest = {tag, writes || (hits && set[way].is_dirty)};
  memmove(set + 1, set, way * sizeof(*set));
  set[0] = latest;
  return hits;
}

// A whole line that leaves level `index` - 1 for level `index`, or for DRAM behind the last.
static void write_back(int index, uint64_t line) {
  struct Line evicted;
  if (index == level_count) {
    ++traffic[current].write_backs;
  } else if (!touch(&levels[index], line, true, &evicted) && evicted.tag != 0 && evicted.is_dirty) {
    write_back(index + 1, evicted.tag - 1);
  }
}

static void access_line(uint64_t line, bool writes) {
  for (int i = 0; i < level_count; ++i) {
    struct Line evicted;
    const bool hits = touch(&levels[i], line, writes && i == 0, &evicted);
    if (evicted.tag != 0 && evicted.is_dirty) write_back(i + 1, evicted.tag - 1);
    if (!hits) continue;
    ++traffic[current].hits[i];
    return;
  }
  ++traffic[current].fills;
}

static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void* data) {
  (void)cpu, (void)data;
  const bool writes = qemu_plugin_mem_is_store(info);
  const uint64_t first = address >> kLineBits;
  const uint64_t last = (address + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> kLineBits;
  for (uint64_t line = first; line <= last; ++line) access_line(line, writes);
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb* block) {
  (void)id;
  const size_t size = qemu_plugin_tb_n_insns(block);
  struct Block* const own = calloc(1, sizeof(*own) + size * 2 * kMostInstruction + 1);
  char* code = own->code;
  for (size_t i = 0; i < size; ++i) {
    struct qemu_plugin_insn* const instruction = qemu_plugin_tb_get_insn(block, i);
    const unsigned char* const bytes = qemu_plugin_insn_data(instruction);
    for (size_t k = 0; k < qemu_plugin_insn_size(instruction); ++k) code += sprintf(code, "%02x", bytes[k]);
    if (level_count == 0) continue;
    qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
  }
  own->next = blocks;
  blocks = own;
  qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &own->count, 1);
}

// All that ran since the last mark is the current operator's.
static void settle(void) {
  for (struct Block* block = blocks; block != NULL; block = block->next) {
    block->by_operator[current] += block->count - block->seen;
    block->seen = block->count;
  }
}

static void report(void) {
  FILE* const file = fopen(out, "w");
  if (file == NULL) exit(2);
  for (int op = 0; op <= kMostOperators; ++op) {
    fprintf(file, "operator %d", op == kBetween ? -1 : op);
    for (int i = 0; i < level_count; ++i) fprintf(file, " %llu", (unsigned long long)traffic[op].hits[i]);
    fprintf(file, " %llu %llu\n", (unsigned long long)traffic[op].fills, (unsigned long long)traffic[op].write_backs);
  }
  for (struct Block* block = blocks; block != NULL; block = block->next) {
    for (int op = 0; op <= kMostOperators; ++op) {
      if (block->by_operator[op] == 0) continue;
      fprintf(file, "block %d %llu %s\n", op == kBetween ? -1 : op, (unsigned long long)block->by_operator[op],
              block->code);
    }
    memset(block->by_operator, 0, sizeof(block->by_operator));
  }
  fclose(file);
  memset(traffic, 0, sizeof(traffic));
}

static void on_call(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                    uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != call) return;
  const int64_t mark = (int64_t)a1;
  settle();
  current = mark >= 0 && mark < kMostOperators ? (int)mark : kBetween;
  if (mark == kEnd) report();
}

static bool add_level(const char* text) {
  char* end;
  const uint64_t bytes = strtoull(text, &end, 10);
  if (level_count == kMostLevels || *end != ':') return false;
  const uint64_t ways = strtoull(end + 1, NULL, 10);
  if (ways == 0 || bytes == 0 || bytes % (ways << kLineBits) != 0) return false;
  struct Level* const level = &levels[level_count++];
  level->sets = bytes / (ways << kLineBits);
  level->ways = ways;
  level->lines = calloc(level->sets * ways, sizeof(*level->lines));
  return true;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info* info, int argc, char** argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (strncmp(argv[i], "call=", 5) == 0) {
      call = atoll(argv[i] + 5);
    } else if (strncmp(argv[i], "out=", 4) == 0) {
      out = strdup(argv[i] + 4);
    } else if (strncmp(argv[i], "cache=", 6) != 0 || !add_level(argv[i] + 6)) {
      return -1;
    }
  }
  if (call < 0 || out == NULL) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
  qemu_plugin_register_vcpu_syscall_cb(id, on_call);
  return 0;
}
