// The joint choice of draft lengths, from invented measurements.
#include "speculative/row_budget.h"

#include <chrono>
#include <deque>

#include "bindings/bindings.h"

namespace pillion::testing {
namespace {

// A budget and the sequences that ride with it, by number.
struct Batch {
    struct Sequence {
        DraftLength acceptance;
        RowBudget::History history;
        int most = DraftLength::kMax, fixed = -1, length = 0;
    };
    RowBudget budget;
    std::deque<Sequence> sequences;
    std::vector<RowBudget::Entry> entries;

    Sequence& at(size_t i) {
        while (i >= sequences.size()) sequences.emplace_back();
        return sequences[i];
    }
    const std::vector<RowBudget::Entry>& gather(const std::vector<size_t>& ids) {
        entries.clear();
        for (size_t id : ids) {
            Sequence& s = at(id);
            entries.push_back({&s.acceptance, &s.history, s.most, s.fixed, s.length});
        }
        return entries;
    }
    std::vector<int> choose(const std::vector<size_t>& ids, int other_rows, int most_rows) {
        std::vector<int> lengths;
        budget.choose(gather(ids), {other_rows, most_rows}, lengths);
        return lengths;
    }
    // Microseconds of one choice, the mean of `times`.
    double choice_us(const std::vector<size_t>& ids, int times) {
        std::vector<int> lengths;
        gather(ids);
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < times; i++) budget.choose(entries, {}, lengths);
        const std::chrono::duration<double, std::micro> all =
            std::chrono::steady_clock::now() - start;
        return all.count() / times;
    }
};

void update(Batch& b, int n_entries, int rows, int other_rows, int64_t positions, double run_ms,
            int steps, int n_drafting, double draft_ms) {
    b.budget.update({n_entries, rows, other_rows, positions, run_ms, steps, n_drafting, draft_ms});
}

void set(Batch& b, size_t id, int most, int fixed, int length) {
    Batch::Sequence& s = b.at(id);
    s.most = most, s.fixed = fixed, s.length = length;
}

std::vector<double> curve(const CountCosts& c, int most, double positions, bool hopeful) {
    std::vector<double> ms(size_t(most) + 1, 0.0);
    using View = CountCosts::View;
    c.curve(positions, hopeful ? View::hopeful : View::measured, ms);
    return ms;
}

}  // namespace

void bind_row_budget(py::module_& m) {
    py::class_<Batch>(m, "RowBudget")
        .def(py::init<>())
        .def("choose", &Batch::choose, py::arg("ids"), py::arg("other_rows") = 0,
             py::arg("most_rows") = INT_MAX)
        .def("update", &update, py::arg("n_entries"), py::arg("rows"), py::arg("other_rows"),
             py::arg("positions"), py::arg("run_ms"), py::arg("steps"), py::arg("n_drafting"),
             py::arg("draft_ms"))
        .def("set", &set, py::arg("id"), py::arg("most") = int(DraftLength::kMax),
             py::arg("fixed") = -1, py::arg("length") = 0)
        .def(
            "drafted",
            [](Batch& b, size_t id, int drafted, int accepted) {
                b.at(id).acceptance.update({drafted, accepted, drafted, 1 + drafted, 1, 1, {}});
            },
            py::arg("id"), py::arg("drafted"), py::arg("accepted"))
        .def("acceptance",
             [](Batch& b, size_t id, int i) { return b.at(id).acceptance.acceptance(i); })
        .def(
            "curve",
            [](Batch& b, int most, double positions, bool hopeful) {
                return curve(b.budget.run_costs(), most, positions, hopeful);
            },
            py::arg("most"), py::arg("positions") = 0.0, py::arg("hopeful") = false)
        .def("measured", [](Batch& b, int rows) { return b.budget.run_costs().n(rows); })
        .def("choice_us", &Batch::choice_us, py::arg("ids"), py::arg("times"));
    py::class_<CountCosts>(m, "CountCosts")
        .def(py::init<double>(), py::arg("guess"))
        .def("add", &CountCosts::add, py::arg("count"), py::arg("ms"), py::arg("positions") = 0.0)
        .def("curve", &curve, py::arg("most"), py::arg("positions") = 0.0,
             py::arg("hopeful") = false)
        .def("per_position", &CountCosts::per_position);
}

}  // namespace pillion::testing
