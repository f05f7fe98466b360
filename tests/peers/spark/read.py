"""Run by a Python that has PySpark: the rows of SQL statements over Delta tables, as one JSON document.

python read.py JARS < {"tables": {view: path}, "statements": {name: sql}}
"""

import json
import sys

from pyspark.sql import SparkSession

SETTINGS = {
    "spark.jars": sys.argv[1],
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
builder = SparkSession.builder.master("local[1]")
for key, value in SETTINGS.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
asked = json.load(sys.stdin)
for view, path in asked["tables"].items():
    spark.read.format("delta").load(path).createOrReplaceTempView(view)
found = {name: [list(row) for row in spark.sql(sql).collect()] for name, sql in asked["statements"].items()}
print(json.dumps(found, default=float))  # Decimal
