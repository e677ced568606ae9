// The choice of the draft length, from invented measurements.
#include "bindings/bindings.h"
#include "speculative/draft_length.h"
#include "speculative/text_lookup.h"

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

    py::class_<SuffixIndex>(m, "SuffixIndex")
        .def(py::init<int>(), py::arg("longest"))
        .def("follow", &SuffixIndex::follow, py::arg("tokens"), py::arg("last"))
        .def(
            "find",
            [](const SuffixIndex& index, size_t n) {
                const SuffixIndex::Match match = index.find();
                std::vector<int32_t> found;
                if (match.length > 0) index.copy(match.next, n, found);
                return std::pair(match.length, found);
            },
            py::arg("n"), "(length of the match, up to n tokens that followed it).");
    py::class_<TextLookup>(m, "TextLookup")
        .def(py::init<>())
        .def("look", &TextLookup::look, py::arg("tokens"), py::arg("last"), py::arg("n"))
        .def_property_readonly("found", &TextLookup::found)
        .def("acceptance", &TextLookup::acceptance, py::arg("position"))
        .def(
            "learn",
            [](TextLookup& t, const std::vector<int32_t>& came) {
                t.learn(came.data(), came.size());
            },
            py::arg("tokens"));
}

}  // namespace pillion::testing
