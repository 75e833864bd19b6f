// Where Android's linker starts the program: hands over to its C library, which calls main.  An NDK has this in its
// crtbegin_dynamic.o.
extern "C" {

int main(int argc, char** argv);
[[noreturn]] void __libc_init(void* arguments, void (*on_exit)(), int (*main)(int, char**), const void* structors);

__attribute__((used)) void bnncc_start(void* arguments) {
  // The lists of constructors and destructors, which the program does not have.
  static const void* const structors[8] = {};
  __libc_init(arguments, nullptr, main, structors);
}

#if defined(__aarch64__)
asm(".globl _start\n.type _start, %function\n_start: mov x29, #0\n mov x30, #0\n mov x0, sp\n b bnncc_start\n");
#elif defined(__arm__)
asm(".globl _start\n.type _start, %function\n_start: mov r0, sp\n b bnncc_start\n");
#endif

}  // extern "C"
