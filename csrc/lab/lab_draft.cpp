// The choice of the draft length, fed with made-up measurements.
#include "lab/lab.h"
#include "speculative/draft_length.h"

namespace pillion::lab {

void bind_draft(py::module_& m) {
    py::class_<DraftLength>(m, "DraftLength")
        .def(py::init<>())
        .def("pick", &DraftLength::pick)
        .def("update", &DraftLength::update, py::arg("drafted"), py::arg("accepted"), py::arg("draft_ms"), py::arg("verify_ms"))
        .def("acceptance", &DraftLength::acceptance, py::arg("position"))
        .def("tokens_per_ms", &DraftLength::tokens_per_ms, py::arg("k"))
        .def_property_readonly("parked", &DraftLength::parked);
}

}  // namespace pillion::lab
