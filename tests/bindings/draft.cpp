// The choice of the draft length, from invented measurements.
#include "bindings/bindings.h"
#include "speculative/draft_length.h"

namespace pillion::testing {

void bind_draft(py::module_& m) {
    py::class_<DraftLength>(m, "DraftLength")
        .def(py::init<>())
        .def("choose", [](DraftLength& d) { return d.choose(); })
        .def(
            "choose_reading",
            [](DraftLength& d, int all, int behind, double share) {
                const DraftLength::Choice c = d.choose({all, behind, share});
                return std::pair<int, int>(c.n, c.window);
            },
            py::arg("all"), py::arg("behind"), py::arg("share"),
            "(drafts, window to read) of a drafter that reads.")
        .def("begin_text", &DraftLength::begin_text)
        .def(
            "update",
            [](DraftLength& d, int drafted, int accepted, double draft_ms, double verify_ms,
               int read, double read_ms, int kept, int rows) {
                if (kept < 0) kept = drafted;
                d.update({drafted,
                          accepted,
                          kept,
                          rows < 0 ? 1 + kept : rows,
                          draft_ms,
                          verify_ms,
                          {read, read_ms}});
            },
            py::arg("drafted"), py::arg("accepted"), py::arg("draft_ms"), py::arg("verify_ms"),
            py::arg("read") = 0, py::arg("read_ms") = 0.0, py::arg("kept") = -1,
            py::arg("rows") = -1,
            "draft_ms holds read_ms, the time that reading took. kept: drafts that were run (-1: "
            "all), "
            "rows: of the run (-1: 1 + kept).")
        .def("acceptance", &DraftLength::acceptance, py::arg("position"))
        .def("tokens_per_ms", &DraftLength::tokens_per_ms, py::arg("k"))
        .def_property_readonly("paused", &DraftLength::paused);
}

}  // namespace pillion::testing
