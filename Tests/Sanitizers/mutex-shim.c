// Tells ThreadSanitizer what `Synchronization.Mutex` does where it is contended.
//
// That path lies in a library of the toolchain that is not instrumented: without this, everything
// that a Mutex protects is reported as a race once two threads meet there. To be preloaded. The
// functions have Swift's calling convention, and the names that Swift 6.3 gives them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#define SWIFT __attribute__((swiftcall))
#define CONTEXT __attribute__((swift_context))
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"

// Not there in a process without ThreadSanitizer, such as the test runner's.
__attribute__((weak)) extern void __tsan_release(void *address);
__attribute__((weak)) extern void __tsan_acquire(void *address);

typedef SWIFT void (*unlock_function)(CONTEXT void *mutex);
typedef SWIFT void (*lock_function)(uint32_t thread, CONTEXT void *mutex);

SWIFT void shim_unlock(CONTEXT void *mutex) __asm__(UNLOCK);
SWIFT void shim_lock(uint32_t thread, CONTEXT void *mutex) __asm__(LOCK);

SWIFT void shim_unlock(CONTEXT void *mutex) {
    static unlock_function unlock;
    if (!unlock) unlock = (unlock_function)dlsym(RTLD_NEXT, UNLOCK);
    if (__tsan_release) __tsan_release(mutex);
    unlock(mutex);
}

SWIFT void shim_lock(uint32_t thread, CONTEXT void *mutex) {
    static lock_function lock;
    if (!lock) lock = (lock_function)dlsym(RTLD_NEXT, LOCK);
    lock(thread, mutex);
    if (__tsan_acquire) __tsan_acquire(mutex);
}
