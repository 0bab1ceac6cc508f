#include "storage/artefacts/text_file.h"

#include "common/status.h"

namespace moe::artefacts {

absl::Status CheckTextFile(const std::string& path) {
  constexpr char kParquet[] = ".parquet";
  if (!path.ends_with(kParquet)) return absl::OkStatus();
  const std::string lines = path.substr(0, path.size() - (sizeof(kParquet) - 1)) + ".jsonl";
  return InvalidArgument(
      "{0} is a Parquet file, which is not read; convert it to JSON lines with its text in "
      "\"text\" "
      "(pip install pandas pyarrow): python3 -c \"import pandas; "
      "pandas.read_parquet('{0}').to_json("
      "'{1}', orient='records', lines=True)\", and name {1}",
      path, lines);
}

}  // namespace moe::artefacts
