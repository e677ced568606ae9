#include "model/weights.h"

#include <string.h>

#include <deque>
#include <string>

#include "model/architecture.h"
#include "model/centroid_head.h"

namespace pillion {
namespace {

class Loader {
  public:
    Loader(const GgufFile& file, const HParams& hp, const TensorReport& report,
           const Placement& placement, Weights& weights)
        : file_(file), hp_(hp), used_(report.used), placement_(placement), w_(weights) {
        // The backend only reads; the interface has one kind of Buffer.
        for (const int part : parts())
            for (const File& f : file.files())
                w_.mapped[part].push_back(
                    backend(part).map_host(const_cast<uint8_t*>(f.data()), f.size()));
    }

    void list() {
        const Architecture& arch = *hp_.arch;
        const bool tied = checked("output.weight") == nullptr;
        // Where the head lies on another device, a tied table is needed twice: as rows at the
        // front, as a matrix at the back.
        shared_table_ = tied && !placement_.is_split();
        part_ = placement_.is_split() ? Part::front : Part::back;
        for (const ModelRule& rule : arch.front) add(w_, rule, "");
        w_.layers.resize(size_t(hp_.n_layers));
        for (int l = 0; l < hp_.n_layers; l++) {
            part_ = placement_.part_of(l);
            const std::string block = "blk." + std::to_string(l) + ".";
            for (const LayerRule& rule : arch.layer) add(w_.layers[size_t(l)], rule, block);
            split_qkv(l);
        }
        part_ = Part::back;
        if (const GgufTensor* t = checked("token_embd.weight"); t && tied && !shared_table_)
            add_rows(w_.output, *t, Use::matrix, 0, t->dims[1]);
        for (const ModelRule& rule : arch.back) add(w_, rule, "");
        if (hp_.centroid_head != CentroidHead::none) list_centroid_head();
    }

    void allocate() {
        size_t total[2] = {0, 0};
        for (Item& item : items_) {
            item.offset = total[item.part];
            item.bytes = take(backend(item.part).weight_bytes(item.source));
            total[item.part] += (item.bytes + 63) / 64 * 64;
            if (item.bytes == 0) w_.mapped_bytes += item.file_bytes;
        }
        for (const int part : parts())
            w_.buffers[part] = take(backend(part).allocate(total[part], BufferKind::weights));
    }

    void place() {
        const Queues queues(*this, /*n_threads=*/1);
        for (Item& item : items_) {
            item.source.data = nullptr;
            import_item(item, queues);
        }
        finish();
    }

    void import(int n_threads, const LoadProgress& progress) {
        const size_t total = w_.bytes(Part::front) + w_.bytes(Part::back);
        const Queues queues(*this, n_threads);
        size_t done = 0;
        for (Item& item : items_) {
            if (progress && !progress(done, total))
                fail(Status::cancelled, "loading %s was cancelled", file_.path().c_str());
            import_item(item, queues);
            done += item.bytes;
            if (item.bytes > 0 && item.file_bytes > 0)
                drop_pages(item.source.owner, item.source.data, item.file_bytes);
        }
        // Where the page cache holds the file in 2 MB pages, a neighbour's read mapped dropped
        // parts again. What stays in the file comes back page by page as it is used.
        file_.drop_all();
        if (progress) progress(total, total);
        finish();
    }

  private:
    using Use = WeightSource::Use;

    struct Item {
        WeightSource source;
        Tensor* to;
        int part;
        size_t file_bytes, bytes, offset;
    };

    struct Queues {
        std::unique_ptr<Queue> of[2];
        Queues(const Loader& loader, int n_threads) {
            for (const int part : loader.parts())
                of[part] = loader.take(loader.backend(part).make_queue(n_threads));
        }
    };

    std::vector<int> parts() const {
        return placement_.is_split() ? std::vector<int>{Part::front, Part::back}
                                     : std::vector<int>{Part::back};
    }
    Backend& backend(int part) const {
        return part == Part::front ? *placement_.front : *placement_.back;
    }

    void import_item(Item& item, const Queues& queues) {
        *item.to = take(backend(item.part).import_weight(item.source, *w_.buffers[item.part],
                                                         item.offset, *queues.of[item.part]));
    }

    static void drop_pages(const void* file, const uint8_t* data, size_t bytes) {
        const File& f = *static_cast<const File*>(file);
        f.drop(size_t(data - f.data()), bytes);
    }

    void finish() {
        for (const Item& item : items_)
            if (item.source.use == Use::matrix &&
                (w_.matrices.empty() || w_.matrices.back().name != item.source.name))
                w_.matrices.push_back({item.source.name, *item.to});
        if (!w_.output) w_.output = w_.token_embd;
    }

    // The value, or Error with the file's name.
    template <class T>
    T take(Result<T> result) const {
        if (!result) file_.fail(result.failure().code(), "%s", result.failure().sentence());
        return std::move(*result);
    }

    // A tensor whose shape was compared with the metadata. Others of a known name are not: another
    // architecture's, or borrowed K and V.
    const GgufTensor* checked(const std::string& name) const {
        const GgufTensor* t = file_.find_tensor(name);
        return t && used_[size_t(t - file_.tensors().data())] ? t : nullptr;
    }

    Use use_of(rules::Use use) const {
        switch (use) {
            case rules::matrix: return Use::matrix;
            case rules::table: return Use::table;
            case rules::embed: return shared_table_ ? Use::matrix : Use::table;
            case rules::vector:
            case rules::plain: break;
        }
        return Use::vector;
    }

    template <class Owner>
    void add(Owner& to, const TensorRule<Owner>& rule, const std::string& block) {
        const GgufTensor* t = checked(block + rule.name);
        if (!t) return;
        if (rule.field.number) memcpy(&(to.*rule.field.number), t->data, 4);
        if (rule.field.tensor) add_rows(to.*rule.field.tensor, *t, use_of(rule.use), 0, t->dims[1]);
    }

    // Rows [first, first + n) of a tensor as a weight of their own; whole tensors of three
    // dimensions are stacks of matrices.
    void add_rows(Tensor& to, const GgufTensor& t, Use use, int64_t first, int64_t n) {
        const size_t row = row_bytes(t.dtype, t.dims[0]);
        const uint8_t* data = t.data + row * size_t(first);
        const size_t file_bytes = row * size_t(n * t.dims[2] * t.dims[3]);
        Item item = {};
        names_.emplace_back(t.name);
        const File& f = file_.files()[t.part];
        item.source = {
            names_.back().c_str(),   t.dtype,    t.dims[0], n,
            t.dims[2] * t.dims[3],   data,       use,       w_.mapped[part_][t.part].get(),
            size_t(data - f.data()), drop_pages, &f};
        item.to = &to;
        item.part = part_;
        item.file_bytes = file_bytes;
        items_.push_back(item);
    }

    // Each centroid's tokens become neighbouring rows, so that the head reads whole runs of the
    // table.
    void list_centroid_head() {
        order_ = read_centroid_order(file_, hp_);
        for (Item& item : items_)
            if (item.to == &w_.token_embd) item.source.row_order = order_.data();
        add_memory(w_.token_order, "token ordering", DType::i32, hp_.n_vocab, 1, order_.data(),
                   Use::table);
        if (const GgufTensor* t = find_centroid_tensor(file_)) {
            add_rows(w_.centroids, *t, Use::matrix, 0, t->dims[1]);
        } else {
            centroids_ = read_centroid_values(file_);
            add_memory(w_.centroids, "centroids", DType::f32, hp_.n_embd, hp_.n_centroids,
                       centroids_.data(), Use::matrix);
        }
    }

    // A weight that is not a tensor of the file.
    void add_memory(Tensor& to, const char* name, DType dtype, int64_t width, int64_t rows,
                    const void* data, Use use) {
        Item item = {};
        item.source.name = name, item.source.dtype = dtype, item.source.width = width,
        item.source.rows = rows, item.source.depth = 1;
        item.source.data = static_cast<const uint8_t*>(data), item.source.use = use;
        item.to = &to;
        item.part = part_;
        items_.push_back(item);
    }

    // The fused form holds the rows of q, then k, then v.
    void split_qkv(int l) {
        LayerWeights& w = w_.layers[size_t(l)];
        const GgufTensor* t = checked("blk." + std::to_string(l) + ".attn_qkv.weight");
        if (!t) return;
        const LayerParams& p = hp_.layers[size_t(l)];
        const int64_t q = int64_t(p.n_heads) * p.head_dim, kv = int64_t(p.n_kv_heads) * p.head_dim;
        add_rows(w.attn_q, *t, Use::matrix, 0, q);
        if (!p.owns_kv) return;
        add_rows(w.attn_k, *t, Use::matrix, q, kv);
        add_rows(w.attn_v, *t, Use::matrix, q + kv, kv);
    }

    const GgufFile& file_;
    const HParams& hp_;
    const std::vector<uint8_t>& used_;  // by index of the file's tensors
    const Placement& placement_;
    Weights& w_;
    int part_ = Part::back;      // where the next items go
    bool shared_table_ = false;  // token_embd is the head's matrix too
    std::vector<Item> items_;
    std::vector<int32_t> order_;
    std::vector<float> centroids_;
    std::deque<std::string> names_;  // stays put: sources point into it
};

}  // namespace

Weights load_weights(const GgufFile& file, const HParams& hp, const TensorReport& report,
                     const Placement& placement, int n_threads, const LoadProgress& progress) {
    Weights weights;
    Loader loader(file, hp, report, placement, weights);
    loader.list();
    loader.allocate();
    loader.import(n_threads, progress);
    return weights;
}

SharedTable share_table(const GgufFile& file, const char* name, Backend& backend) {
    const GgufTensor* t = file.find_tensor(name);
    PILLION_CHECK(t != nullptr);
    SharedTable table;
    const File& f = file.files()[t->part];
    table.mapped = backend.map_host(const_cast<uint8_t*>(f.data()), f.size());
    const WeightSource source = {name,
                                 t->dtype,
                                 t->dims[0],
                                 t->dims[1],
                                 1,
                                 t->data,
                                 WeightSource::Use::table,
                                 table.mapped.get(),
                                 size_t(t->data - f.data())};
    const auto take = [&](auto result) {
        if (!result)
            file.fail(result.failure().code(), "%s on %s: %s", name, backend.name(),
                      result.failure().sentence());
        return std::move(*result);
    };
    if (const size_t bytes = take(backend.weight_bytes(source)); bytes > 0)
        table.buffer = take(backend.allocate(bytes, BufferKind::weights));
    Buffer& buffer = table.buffer ? *table.buffer : *table.mapped;
    const std::unique_ptr<Queue> queue = take(backend.make_queue(/*n_threads=*/1));
    table.tensor = take(backend.import_weight(source, buffer, 0, *queue));
    return table;
}

Weights place_weights(const GgufFile& file, const HParams& hp, const TensorReport& report,
                      const Placement& placement) {
    Weights weights;
    Loader loader(file, hp, report, placement, weights);
    loader.list();
    loader.allocate();
    loader.place();
    return weights;
}

}  // namespace pillion
