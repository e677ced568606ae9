#include "runtime/file_sampling.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include <algorithm>

#include "core/error.h"

namespace pillion {
namespace {

struct Setting {
    const char* key;
    const char* name;
    const char* allowed;
    double least, most;
    bool is_whole = false;
};

constexpr double kAboveZero = DBL_TRUE_MIN;
constexpr Setting kTemperature = {"general.sampling.temp", "temperature",
                                  "0 or more, at most 1000000", 0, kTemperatureMost};
constexpr Setting kTopK = {
    "general.sampling.top_k", "top_k", "0 (off) or more", 0, INT32_MAX, true};
constexpr Setting kTopP = {"general.sampling.top_p", "top_p", "above 0 and at most 1 (off)",
                           kAboveZero, 1};
constexpr Setting kMinP = {"general.sampling.min_p", "min_p", "0 (off) to 1", 0, 1};
constexpr Setting kRepeatPenalty = {"general.sampling.penalty_repeat", "repeat_penalty",
                                    "0.001 to 1000", kRepeatPenaltyLeast, kRepeatPenaltyMost};
constexpr Setting kPenaltyLastN = {"general.sampling.penalty_last_n",
                                   "penalty_last_n",
                                   "-1 (all), 0 (off) or more",
                                   -1,
                                   INT32_MAX,
                                   true};

// A value as JSON has it, with the name of its type where it is no number.
std::string shown(const GgufValue& value, const std::string& json) {
    constexpr size_t kLongest = 60;
    const std::string text =
        json.size() <= kLongest ? json : printable(json.substr(0, kLongest)) + "…";
    if (value.is_array) return "the array " + text;
    if (value.element == GgufType::string) return "the string " + text;
    if (value.element == GgufType::boolean) return "the bool " + text;
    return json == "null" ? "not finite" : text;
}

double read(const GgufFile& file, const Setting& s, double otherwise) {
    const GgufValue* value = file.find(s.key);
    if (!value) return otherwise;
    constexpr size_t kFew = 16;
    const std::string json = to_json(*value, kFew);
    char* end = nullptr;
    double number = strtod(json.c_str(), &end);
    const bool is_number = !value->is_array && value->element != GgufType::string &&
                           end != json.c_str() && *end == 0 && isfinite(number);
    if (!is_number || (s.is_whole && number != floor(number)))
        file.fail(Status::file_corrupt, "key %s is %s; it must be %s", s.key,
                  shown(*value, json).c_str(), s.is_whole ? "an integer" : "a finite number");
    if (s.is_whole) number = std::max(number, s.least);  // others write anything negative
    if (number < s.least || number > s.most)
        file.fail(Status::file_corrupt, "key %s: %s is %s; it must be %s", s.key, s.name,
                  json.c_str(), s.allowed);
    return number;
}

}  // namespace

SamplerOptions file_sampling(const GgufFile& file) {
    SamplerOptions o;
    o.temperature = float(read(file, kTemperature, 0.8));
    o.top_k = int(read(file, kTopK, 40));
    o.top_p = std::max(float(read(file, kTopP, 0.95)), FLT_TRUE_MIN);
    o.min_p = float(read(file, kMinP, 0.05));
    o.repeat_penalty = float(read(file, kRepeatPenalty, 1));
    o.penalty_last_n = int(read(file, kPenaltyLastN, 64));
    return o;
}

}  // namespace pillion
