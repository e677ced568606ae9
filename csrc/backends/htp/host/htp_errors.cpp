#include "backends/htp/host/htp_errors.h"

namespace pillion::htp {
namespace {

constexpr uint32_t kDspOffset = 0x80000400u;
constexpr const char* kRestart =
    "open the model again; if that fails too, restart the device: its DSP may hang";
constexpr const char* kMemory =
    "close other programs that use the DSP, or take a smaller n_ctx, model or kv_type q8_0";
constexpr const char* kLibrary =
    "put the libpillion_htp_v*.so of this device's architecture into a folder of ADSP_LIBRARY_PATH";

constexpr DriverCode kCodes[] = {
    {0x01, "EFAILED", "the call failed on the DSP", kRestart, Status::device_lost},
    {0x02, "ENOMEMORY", "the DSP has no memory for it", kMemory, Status::out_of_memory},
    {0x04, "EVERSIONNOTSUPPORT", "the two sides are of different versions",
     "install the DSP library of the same pillion", Status::no_backend},
    {0x05, "EALREADYLOADED", "this program has the DSP open already, as signed",
     "open pillion before other users of the DSP", Status::no_backend},
    {0x06, "EUNABLETOLOAD", "the DSP can't load the library", kLibrary, Status::no_backend},
    {0x0C, "EEXPIRED", "no answer in time", kRestart, Status::device_lost},
    {0x0D, "EBADSTATE", "the session is not usable any more", kRestart, Status::device_lost},
    {0x0E, "EBADPARM", "an argument was refused", "", Status::internal},
    {0x14, "EUNSUPPORTED", "the DSP or its system is too old for this call",
     "use the cpu on this device", Status::no_backend},
    {0x15, "EPRIVLEVEL", "privileges are insufficient",
     "run from adb's shell, or as an app that may use the DSP", Status::no_backend},
    {0x1A, "EALREADY", "the memory is mapped already", "", Status::internal},
    {0x20, "EITEMBUSY", "the DSP is busy with other sessions",
     "close other programs that use it and try again", Status::busy},
    {0x27, "ENOSUCH", "the process on the DSP ended, or knows no such module", kRestart,
     Status::device_lost},
    {0x2B, "ENOTALLOWED", "not allowed for this program",
     "run from adb's shell, or as an app that may use the DSP", Status::no_backend},
    {0x2C, "EBADHANDLE", "the session is closed", kRestart, Status::device_lost},
    {0x2D, "EOUTOFHANDLES", "the DSP has no session left",
     "close other programs that use it and try again", Status::busy},
    {0x2E, "EINTERRUPTED", "a signal ended the call", kRestart, Status::device_lost},
    {0x30, "ECPUEXCEPTION", "the program on the DSP crashed", kRestart, Status::device_lost},
    {0x3B, "EINVALIDDEVICE", "the device node of the DSP can't be opened",
     "this user may not use the DSP: see docs/hexagon.md", Status::no_backend},
    {0x39, "EINVALIDDOMAIN", "the driver knows no such DSP or session",
     "use the cpu on this device", Status::no_backend},
    {0x3E, "ENOSUCHMOD", "there is no such module on the DSP", kLibrary, Status::no_backend},
    {0x42, "ENOSUCHSYMBOL", "the library has not pillion's entry", kLibrary, Status::no_backend},
    {0x43, "ENOSUCHDEVICE", "there is no such DSP", "use the cpu on this device",
     Status::no_backend},
    {0x45, "ENOSUCHFILE", "the DSP does not find the library", kLibrary, Status::no_backend},
    {0x46, "ENOSUCHHANDLE", "the session is closed", kRestart, Status::device_lost},
    {0x48, "ENOSUCHMAP", "a buffer is not mapped on the DSP", "", Status::internal},
    {0x4E, "EBADPERMS", "the system refuses access to the DSP or its files",
     "run from adb's shell, or as an app that may use the DSP", Status::no_backend},
    {0x52, "EBADELF", "the library is not for this DSP", kLibrary, Status::no_backend},
    {0x57, "EFOPEN",
     "a file is missing: the library, the system's fastrpc_shell_unsigned_3, or the device node",
     kLibrary, Status::no_backend},
    {0x65, "EMMAP", "the memory can't be mapped", kMemory, Status::out_of_memory},
    {0x66, "EIONMAP", "the DSP's address space has no room for the buffer", kMemory,
     Status::out_of_memory},
    {0x68, "ENORPCMEMORY", "there is no shared memory left", kMemory, Status::out_of_memory},
    {0x67, "EIONALLOC", "there is no shared memory left", kMemory, Status::out_of_memory},
    {0x69, "ENOROOTOFTRUST", "the DSP accepts signed programs only", "use the cpu on this device",
     Status::no_backend},
    {0x6C, "EUNSUPPORTEDAPI", "the DSP or its system is too old for this call",
     "use the cpu on this device", Status::no_backend},
    {0x72, "ECONNREFUSED", "the DSP refuses connections",
     "this user or device may not use it: see docs/hexagon.md", Status::no_backend},
    {0x73, "ENOSESSION", "the DSP has no session left",
     "close other programs that use it and try again", Status::busy},
    {0x81, "EUNSIGNEDMOD", "the DSP refuses unsigned programs",
     "use the cpu on this device, or sign the library for it", Status::no_backend},
    {0x82, "EINVALIDHASH", "the DSP refuses unsigned programs",
     "use the cpu on this device, or sign the library for it", Status::no_backend},
    // from later systems
    {0x8A, "ENOSESSION", "the DSP has no session left",
     "close other programs that use it and try again", Status::busy},
    {0x14B, "EQURTTHREADCREATE", "the DSP gives no more threads",
     "close other programs that use it and try again", Status::busy},
    {104, "ECONNRESET", "the DSP was restarted or its process died", kRestart, Status::device_lost},
    {516, "EWOULDBLOCK", "the queue is full", kRestart, Status::device_lost},
    {0x200, "ERPC", "the driver and the DSP lost each other", kRestart, Status::device_lost},
};
constexpr DriverCode kUnknown = {~0u, "unknown", "the driver gives no meaning", kRestart,
                                 Status::device_lost};

uint32_t plain(int code) {
    const uint32_t c = uint32_t(code);
    return c >= kDspOffset ? c - kDspOffset : c;
}

}  // namespace

const DriverCode& driver_code(int code) {
    // 104 has two meanings: the host's own number of a lost connection, and, with the DSP's offset,
    // a lack of memory.
    for (const DriverCode& c : kCodes)
        if (c.code == plain(code) &&
            (c.code != 104 || (c.status == Status::device_lost) == (uint32_t(code) == 104)))
            return c;
    return kUnknown;
}

Failure driver_failure(const char* what, int code) {
    const DriverCode& c = driver_code(code);
    return Failure(c.status, "%s: error 0x%x (%s): %s%s%s", what, unsigned(code), c.name, c.meaning,
                   *c.remedy ? "; " : "", c.remedy);
}

}  // namespace pillion::htp
