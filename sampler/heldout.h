// Which text is held out for evaluation (docs/formats/dataset.md). Pure.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace moe::sampler {

// Whether a document is held out: a function of its text alone, so that neither the order of files
// nor the other documents matter, and a duplicate never sits on both sides. `fraction` is 0 to 1.
bool IsHeldout(const std::string& text, double fraction);

// Cuts the only document of a domain into (training, held out): at the paragraph break nearest to
// 1 - fraction, else the line break, else the space. nullopt where there is no such place.
std::optional<std::pair<std::string, std::string>> CutDocument(const std::string& text,
                                                               double fraction);

}  // namespace moe::sampler
